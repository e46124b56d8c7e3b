//! vsftpd over one folder: passive, by the old command and the new one, and active.

use core::cell::Cell;
use core::net::IpAddr;
use std::fs;
use std::path::Path;

use lvs_core::{Family, Method};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Cluster, Lab, Node};

use crate::daemon::{Daemon, curl};
use crate::site::{Kind, LISTENS, Service, Site};

/// Under NAT the director reads the control connection, and expects the data connection that is agreed there.
const TRANSLATED: Kind<'_> = Kind {
    name: "ftp",
    marks: "",
    services: &[Service { lines: "protocol = \"tcp\"", check: LISTENS, port: Some(21), server_port: 21 }],
    fill,
    start,
};

/// With the other methods it sees half of each conversation, so that all ports of the virtual address are one
/// persistent service: a client's data connections go where its control connection went.
const MARKED: Kind<'_> = Kind {
    name: "ftp",
    marks: "[[mark]]\nmark = 21\nprotocol = \"tcp\"\nto = \"VIP\"\n",
    services: &[Service {
        lines: "mark = 21\npersistence = { timeout = 60 }",
        check: LISTENS,
        port: None,
        server_port: 21,
    }],
    fill,
    start,
};

const LENGTH: usize = 1 << 20;
/// Enough for all that is asked: persistence keeps each with its server, so that one who returns gets new ones alone.
const CLIENTS: u8 = 150;

pub(crate) fn test(lab: Lab, method: Method, family: Family) -> Outcome {
    let kind = if method == Method::Nat { TRANSLATED } else { MARKED };
    let mut site = Site::new(lab, method, family, &kind)?;
    for number in 0..CLIENTS {
        site.client.add_address("eth0", client(family, number), Cluster::prefix(family))?;
    }
    let next = Cell::new(0);
    let mut ways: Vec<&[&str]> = vec![&[], &["--ftp-port", "-"]];
    if family == Family::V4 {
        // The commands without E, which know IPv4 alone (RFC 959).
        ways.extend([&["--disable-epsv"][..], &["--disable-eprt", "--ftp-port", "-"][..]]);
    }
    site.survives(&|site| {
        let number = next.replace((next.get() + 1) % CLIENTS);
        let (_, name) = fetch(site, number, "name", &[])?;
        Ok(name)
    })?;
    for way in ways {
        for number in 0..3 {
            let (content, _) = fetch(&site, number, "large", way)?;
            assert!(content == document(), "{way:?}");
        }
    }
    Ok(())
}

const fn client(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 101 + number)),
        Family::V6 => {
            IpAddr::V6(core::net::Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0x200 + number as u16))
        }
    }
}

/// A file, and who served it, as its greeting says.
fn fetch(site: &Site, number: u8, file: &str, way: &[&str]) -> Outcome<(Vec<u8>, String)> {
    let url = format!("ftp://{}/{file}", site.host());
    let from = client(site.family, number).to_string();
    let arguments = [&["-v", "--interface", &from, &url], way].concat();
    let output = curl(&site.client, &arguments)?;
    let talk = String::from_utf8_lossy(&output.stderr);
    let name = talk.lines().find_map(|line| line.trim_end().strip_prefix("< 220 ")).ok_or("no greeting")?;
    Ok((output.stdout, name.to_owned()))
}

fn document() -> Vec<u8> {
    (0..LENGTH as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8).collect()
}

fn fill(share: &Path) -> Outcome {
    fs::write(share.join("name"), "one of three\n")?;
    Ok(fs::write(share.join("large"), document())?)
}

fn start(node: &Node, folder: &Path, share: &Path, _: &[IpAddr]) -> Outcome<Daemon> {
    let empty = folder.join("empty");
    fs::create_dir_all(&empty)?;
    let file = folder.join("vsftpd.conf");
    fs::write(
        &file,
        format!(
            "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nlocal_enable=NO\n\
             write_enable=NO\nanon_root={}\nsecure_chroot_dir={}\nftpd_banner={}\nconnect_from_port_20=YES\n\
             xferlog_enable=NO\nseccomp_sandbox=NO\nisolate_network=NO\n",
            share.display(),
            empty.display(),
            node.name()
        ),
    )?;
    Daemon::start(node, folder, &["vsftpd", &file.display().to_string()])
}
