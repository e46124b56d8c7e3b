//! unbound with one zone, by UDP and TCP, with an answer beyond the MTU.

use core::net::IpAddr;
use std::fs;
use std::path::Path;

use lvs_core::{Family, Method};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Cluster, Lab, Node};

use crate::daemon::{Daemon, command};
use crate::site::{Kind, LISTENS, Service, Site};

const KIND: Kind<'_> = Kind {
    name: "dns",
    marks: "",
    services: &[
        Service {
            lines: "protocol = \"udp\"",
            check: "type = \"dns\", name = \"example.test\"",
            port: Some(53),
            server_port: 5353,
        },
        Service { lines: "protocol = \"tcp\"", check: LISTENS, port: Some(53), server_port: 5353 },
    ],
    fill,
    start,
};

/// Strings of 250 bytes in the large record: an answer of some 3,000 bytes, two fragments or three.
const STRINGS: usize = 12;

pub(crate) fn test(lab: Lab, method: Method, family: Family) -> Outcome {
    let mut site = Site::new(lab, method, family, &KIND)?;
    let by_udp = ["+notcp", "+ignore", "+bufsize=4096"];
    site.survives(&|site| dig(site, "which.example.test", &by_udp))?;
    site.survives(&|site| dig(site, "which.example.test", &["+tcp"]))?;
    for transport in [&by_udp[..], &["+tcp"]] {
        for _ in 0..6 {
            let answer = dig(&site, "large.example.test", transport)?;
            assert_eq!(answer.matches('x').count(), STRINGS * 250, "{transport:?}");
        }
    }
    // What fits no datagram that the client takes is asked for again by TCP, at whatever server.
    let answer = dig(&site, "large.example.test", &["+bufsize=512"])?;
    assert_eq!(answer.matches('x').count(), STRINGS * 250);
    Ok(())
}

fn dig(site: &Site, name: &str, options: &[&str]) -> Outcome<String> {
    let mut dig = command("dig");
    dig.args([&format!("@{}", Cluster::vip(site.family)), name, "TXT", "+short", "+tries=1", "+time=5"])
        .args(options);
    let output = site.client.run(|| dig.output())??;
    let text = String::from_utf8(output.stdout)?;
    if !output.status.success() || text.starts_with(";;") {
        return Err(text.into());
    }
    Ok(text.trim().trim_matches('"').to_owned())
}

fn fill(share: &Path) -> Outcome {
    let text = format!("\"{}\" ", "x".repeat(250)).repeat(STRINGS);
    let records = format!(
        "local-zone: \"example.test.\" static\n\
         local-data: 'example.test. SOA ns.example.test. admin.example.test. 1 3600 600 86400 300'\n\
         local-data: 'large.example.test. TXT {}'\n",
        text.trim()
    );
    Ok(fs::write(share.join("zone.conf"), records)?)
}

fn start(node: &Node, folder: &Path, share: &Path, addresses: &[IpAddr]) -> Outcome<Daemon> {
    let (own, zone, name) = (folder.display(), share.join("zone.conf"), node.name());
    // Named one by one, so that datagrams are answered from the address that was asked.
    let interfaces =
        addresses.iter().flat_map(|address| [53, 5353].map(|port| format!("interface: {address}@{port}\n")));
    let file = folder.join("unbound.conf");
    fs::write(
        &file,
        format!(
            "server:\n{}do-daemonize: no\nusername: \"\"\nchroot: \"\"\ndirectory: \"{own}\"\npidfile: \"{own}/pid\"\n\
             use-syslog: no\naccess-control: 0.0.0.0/0 allow\naccess-control: ::/0 allow\nmax-udp-size: 4096\n\
             edns-buffer-size: 4096\nnum-threads: 1\nmodule-config: \"iterator\"\n\
             local-data: 'which.example.test. TXT \"{name}\"'\ninclude: \"{}\"\nremote-control:\ncontrol-enable: no\n",
            interfaces.collect::<String>(),
            zone.display()
        ),
    )?;
    Daemon::start(node, folder, &["unbound", "-d", "-c", &file.display().to_string()])
}
