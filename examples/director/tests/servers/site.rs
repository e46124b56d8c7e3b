//! Client, director and three servers of a kind.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Instant;

use lvs_core::{Family, Method};
use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Cluster, Lab, Node, Plan};

use crate::daemon::Daemon;

/// The check of a service that is well if somebody listens.
pub(crate) const LISTENS: &str = "type = \"tcp\"";
/// How soon checks notice.
const TIMES: &str = "interval = \"300ms\", timeout = \"2s\", rise = 1, fall = 1";
/// How long a check may take to notice anything, with room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service in front of the servers.
pub(crate) struct Service {
    /// The lines of its table but for address, check and servers.
    pub(crate) lines: &'static str,
    /// What its check is, but for the times.
    pub(crate) check: &'static str,
    /// The port at the virtual address; `None` for a service by mark, which takes all.
    pub(crate) port: Option<u16>,
    /// The servers' port under NAT. With the other methods it is that of the service.
    pub(crate) server_port: u16,
}

/// A folder that is gone when this value is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Self, std::io::Error> {
        let path = std::env::temp_dir().join(format!("director-servers-{}-{name}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// The whole of it at work.
pub(crate) struct Site {
    pub(crate) family: Family,
    pub(crate) client: Node,
    /// The folder that all servers share.
    pub(crate) share: PathBuf,
    pub(crate) daemons: Vec<Daemon>,
    _director: Daemon,
    _ends: Vec<Daemon>,
    _cluster: Cluster,
    _folder: Folder,
}

/// What a kind brings: its services, and how its server of this number is started. The arguments of `start` are the
/// node, a folder of the server's own, the shared folder, and the addresses at which clients and director ask it.
pub(crate) struct Kind<'a> {
    pub(crate) name: &'a str,
    pub(crate) marks: &'a str,
    pub(crate) services: &'a [Service],
    pub(crate) fill: fn(&Path) -> Outcome,
    pub(crate) start: fn(&Node, &Path, &Path, &[IpAddr]) -> Outcome<Daemon>,
}

impl Site {
    pub(crate) fn new(lab: Lab, method: Method, family: Family, kind: &Kind<'_>) -> Outcome<Self> {
        let cluster = Cluster::new(lab, &Plan::new(method).with_servers(3))?;
        // The checks come from the kernel of the director's machine.
        let own = match family {
            Family::V4 => "10.0.1.253".parse()?,
            Family::V6 => "2001:db8:1::fd".parse()?,
        };
        // The lab has silenced the family on an interface that belongs to a director alone.
        cluster.director.set_sysctl("net.ipv6.conf.eth0.disable_ipv6", "0")?;
        cluster.director.add_address("eth0", own, Cluster::prefix(family))?;
        let folder = Folder::new(kind.name)?;
        let share = folder.0.join("share");
        fs::create_dir_all(&share)?;
        (kind.fill)(&share)?;
        let vip = Cluster::vip(family);
        let (mut daemons, mut ends) = (Vec::new(), Vec::new());
        for (node, number) in cluster.servers.iter().zip(1..) {
            let private = folder.0.join(node.name());
            fs::create_dir_all(&private)?;
            let mut addresses = vec![Cluster::server_address(number, family)];
            if method != Method::Nat {
                addresses.push(vip);
            }
            daemons.push((kind.start)(node, &private, &share, &addresses)?);
            if let Method::Tunnel(_) = method {
                let end = format!("{}/{}", Cluster::tunnel_address(number, family), Cluster::prefix(family));
                let arguments = ["decap", "--interface", "eth0", "--address", &end, "--tun", "tunl0"];
                let folder = private.join("end");
                ends.push(Daemon::director(node, &folder, &arguments, "unwrapping what comes to")?);
            }
        }
        let own = folder.0.join("director");
        let file = folder.0.join("director.toml");
        fs::write(&file, configuration(method, family, kind))?;
        let run = ["run", "--config", &file.display().to_string(), "--no-state", "--no-control"];
        let director = Daemon::director(&cluster.director, &own, &run, "the director is at work")?;
        let site = Self {
            family,
            client: cluster.client.clone(),
            share,
            daemons,
            _director: director,
            _ends: ends,
            _cluster: cluster,
            _folder: folder,
        };
        Ok(site)
    }

    /// The virtual address as it stands in a URL.
    pub(crate) fn host(&self) -> String {
        match Cluster::vip(self.family) {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        }
    }

    /// The heart of each test: `ask` is served, by all three; when one dies, by the other two without an error as soon
    /// as its check has failed; and by all three once it is back. `ask` says who answered.
    pub(crate) fn survives(&mut self, ask: &dyn Fn(&Self) -> Outcome<String>) -> Outcome {
        let all: BTreeSet<String> = ["rs1", "rs2", "rs3"].map(str::to_owned).into();
        let without: BTreeSet<String> = ["rs1", "rs3"].map(str::to_owned).into();
        self.served_by(ask, &all)?;
        self.daemons.get_mut(1).ok_or("no second server")?.kill();
        self.served_by(ask, &without)?;
        self.daemons.get_mut(1).ok_or("no second server")?.restart()?;
        self.served_by(ask, &all)
    }

    /// Asks until twelve answers one after the other came from just these servers.
    fn served_by(&self, ask: &dyn Fn(&Self) -> Outcome<String>, expected: &BTreeSet<String>) -> Outcome {
        let end = Instant::now() + PATIENCE;
        loop {
            let answers: Vec<Outcome<String>> = (0..12).map(|_| ask(self)).collect();
            let names: BTreeSet<String> = answers.iter().flatten().cloned().collect();
            let failure = answers.into_iter().find_map(Result::err);
            if failure.is_none() && names == *expected {
                return Ok(());
            }
            if Instant::now() > end {
                let outputs: Vec<_> = self.daemons.iter().map(Daemon::output).collect();
                return Err(format!("{names:?} answered, not {expected:?}; {failure:?}; {outputs:?}").into());
            }
            sleep(Duration::from_millis(100));
        }
    }
}

fn configuration(method: Method, family: Family, kind: &Kind<'_>) -> String {
    let vip = Cluster::vip(family);
    let mut text = format!(
        "virtual-addresses = [\"{vip}\"]\n[[interface]]\nname = \"eth0\"\n\
         addresses = [\"{}/{length}\", \"{}/{length}\"]\n{}",
        Cluster::director_to_servers(family),
        Cluster::director_to_clients(family),
        kind.marks.replace("VIP", &whole(vip)),
        length = Cluster::prefix(family),
    );
    for service in kind.services {
        let Service { lines, check, .. } = service;
        text.push_str(&format!("[[service]]\nscheduler = \"rr\"\n{lines}\ncheck = {{ {check}, {TIMES} }}\n"));
        match service.port {
            Some(port) => text.push_str(&format!("address = \"{vip}\"\nport = {port}\n")),
            None if family == Family::V4 => text.push_str("family = \"v4\"\n"),
            None => text.push_str("family = \"v6\"\n"),
        }
        for number in 1..=3 {
            let own = Cluster::server_address(number, family);
            text.push_str("[[service.server]]\n");
            text.push_str(&match method {
                Method::Nat => {
                    let to = SocketAddr::new(own, service.server_port);
                    format!("address = \"{}\"\nport = {}\nmethod = \"nat\"\n", to.ip(), to.port())
                }
                Method::Tunnel(_) => {
                    let end = Cluster::tunnel_address(number, family);
                    let check = check_port(service);
                    // A tunnel's end answers nothing but what is in a tunnel.
                    format!("address = \"{end}\"\nmethod = \"tun\"\ncheck-address = \"{own}\"\n{check}")
                }
                Method::Bypass | Method::Direct | Method::Local => {
                    let check = check_port(service);
                    format!("address = \"{own}\"\nmethod = \"dr\"\n{check}")
                }
            });
        }
    }
    text
}

/// The prefix of one address.
fn whole(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// A service of all ports has its checks at one.
fn check_port(service: &Service) -> String {
    match service.port {
        Some(_) => String::new(),
        None => format!("check-port = {}\n", service.server_port),
    }
}
