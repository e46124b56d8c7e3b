//! nginx over one folder of documents.

use core::net::IpAddr;
use std::fs;
use std::path::Path;

use lvs_core::{Family, Method};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Lab, Node};

use crate::daemon::{Daemon, curl};
use crate::site::{Kind, Service, Site};

const KIND: Kind<'_> = Kind {
    name: "web",
    marks: "",
    services: &[Service {
        lines: "protocol = \"tcp\"",
        check: "type = \"http\", path = \"/health\"",
        port: Some(80),
        server_port: 8080,
    }],
    fill,
    start,
};

/// Bytes of the large document: several hundred segments.
const LARGE: usize = 3 << 20;

pub(crate) fn test(lab: Lab, method: Method, family: Family) -> Outcome {
    let mut site = Site::new(lab, method, family, &KIND)?;
    site.survives(&|site| {
        let (_, name) = fetch(site, "/health")?;
        Ok(name)
    })?;
    for _ in 0..6 {
        let (content, _) = fetch(&site, "/large")?;
        assert!(content == document(), "the large document came as it is");
    }
    Ok(())
}

/// A document, and who served it.
fn fetch(site: &Site, path: &str) -> Outcome<(Vec<u8>, String)> {
    let url = format!("http://{}{path}", site.host());
    let output = curl(&site.client, &["-i", &url])?;
    let end = output.stdout.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or("no header")?;
    let (header, content) = output.stdout.split_at(end + 4);
    let header = String::from_utf8_lossy(header);
    assert!(header.starts_with("HTTP/1.1 200"), "{header}");
    let name = header.lines().find_map(|line| line.strip_prefix("X-Server: ")).ok_or("no name")?;
    Ok((content.to_vec(), name.to_owned()))
}

fn document() -> Vec<u8> {
    (0..LARGE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn fill(share: &Path) -> Outcome {
    fs::write(share.join("health"), "well\n")?;
    Ok(fs::write(share.join("large"), document())?)
}

fn start(node: &Node, folder: &Path, share: &Path, _: &[IpAddr]) -> Outcome<Daemon> {
    let (own, share, name) = (folder.display(), share.display(), node.name());
    let file = folder.join("nginx.conf");
    fs::write(
        &file,
        format!(
            "user root;\ndaemon off;\nworker_processes 1;\npid {own}/pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\nclient_body_temp_path {own}/b;\nproxy_temp_path {own}/p;\n\
             fastcgi_temp_path {own}/f;\nuwsgi_temp_path {own}/u;\nscgi_temp_path {own}/s;\n\
             server {{\nlisten 80;\nlisten 8080;\nlisten [::]:80;\nlisten [::]:8080;\nroot {share};\n\
             add_header X-Server {name};\n}}\n}}\n"
        ),
    )?;
    Daemon::start(node, folder, &["nginx", "-c", &file.display().to_string()])
}
