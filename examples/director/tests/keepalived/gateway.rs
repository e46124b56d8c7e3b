//! The set-up by which Linux's developers try IPVS: the director's machine is the client's router and the server's, its
//! kernel has the virtual address and forwards, and ipvsadm is all that is told. Here it is told under `director exec`,
//! to a director with default options.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use lvs_std::lab::harness::Outcome;
use lvs_std::lab::{Lab, Node};

use crate::cell::Cell;

/// A way to the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    Nat,
    Tunnel,
}

/// A client reads what the real server says at the virtual address.
pub(crate) fn by(lab: Lab, way: Way) -> Outcome {
    let net = Net::new(lab, way)?;
    let cell = Cell::new(&net.director, &format!("gateway{way:?}"))?;
    cell.write("director.toml", DIRECTOR)?;
    cell.start_director("--config /run/kw/director.toml")?;
    let _decap = (way == Way::Tunnel).then(|| Decap::start(&net.server)).transpose()?;
    let (flag, server, port) = match way {
        Way::Direct => ("-g", SERVER, PORT),
        Way::Nat => ("-m", SERVER, PORT),
        Way::Tunnel => ("-i", TUNNEL, PORT),
    };
    let service = format!("{VIP}:{PORT}");
    let lines = [format!("-A -t {service} -s rr"), format!("-a -t {service} -r {server}:{port} {flag}")];
    for (number, line) in lines.iter().enumerate() {
        cell.tell(&format!(
            "{} exec --control /run/kw/director.sock -- ipvsadm {line} >>/run/kw/shell.log 2>&1; \
             echo $? >/run/kw/status{number}",
            env!("CARGO_BIN_EXE_director")
        ))?;
        cell.wait("end of ipvsadm", || cell.read(&format!("status{number}")).ends_with('\n'))?;
        assert_eq!(cell.read(&format!("status{number}")), "0\n", "{line}: {}", cell.logs());
    }
    let read = || net.client.run(fetch).is_ok_and(|word| word.is_ok_and(|word| word == WORD));
    // The first one may come before the director knows its neighbours.
    cell.wait("answer", read)?;
    for _ in 0..8 {
        assert!(read(), "{}", cell.logs());
    }
    Ok(())
}

struct Net {
    client: Node,
    director: Node,
    server: Node,
}

impl Net {
    fn new(lab: Lab, way: Way) -> Outcome<Self> {
        let (client, director, server) = (lab.node("client")?, lab.node("director")?, lab.node("server")?);
        lab.connect((&client, "eth0"), (&director, "eth0"))?;
        lab.connect((&director, "eth1"), (&server, "eth0"))?;
        client.add_address("eth0", CLIENT, 24)?;
        director.add_address("eth0", ROUTER, 24)?;
        director.add_address("eth1", INSIDE, 24)?;
        director.add_address("lo", VIP, 32)?;
        director.set_sysctl("net.ipv4.ip_forward", "1")?;
        client.add_route(VIP, 32, ROUTER)?;
        server.add_address("eth0", SERVER, 24)?;
        if way == Way::Nat {
            server.add_route(IpAddr::from([0; 4]), 0, INSIDE)?;
        } else {
            // The server answers by a way of its own.
            lab.connect((&client, "eth1"), (&server, "eth1"))?;
            client.add_address("eth1", IpAddr::from([10, 0, 9, 2]), 24)?;
            server.add_address("eth1", IpAddr::from([10, 0, 9, 3]), 24)?;
            server.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
            server.set_sysctl("net.ipv4.conf.all.arp_announce", "2")?;
            server.add_address("lo", VIP, 32)?;
            server.add_route(IpAddr::from([10, 0, 0, 0]), 24, IpAddr::from([10, 0, 9, 2]))?;
        }
        let at = SocketAddr::new(if way == Way::Nat { SERVER } else { VIP }, PORT);
        let listener = server.run(|| TcpListener::bind(at))??;
        server.spawn("listen", move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(WORD.as_bytes());
            }
        })?;
        Ok(Self { client, director, server })
    }
}

/// What unwraps the director's packets at the server.
struct Decap(std::process::Child);

impl Decap {
    fn start(server: &Node) -> Outcome<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_director"));
        let command = command
            .args(["decap", "--interface", "eth0", "--address", &format!("{TUNNEL}/24")])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Self(server.run(|| command.spawn())??))
    }
}

impl Drop for Decap {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fetch() -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(VIP, PORT), Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut word = String::new();
    stream.read_to_string(&mut word)?;
    Ok(word)
}

const DIRECTOR: &str = "\
[[interface]]
name = \"eth0\"
addresses = [\"10.0.0.254/24\"]
[[interface]]
name = \"eth1\"
addresses = [\"172.16.0.254/24\"]
";
const WORD: &str = "the real server's word";
const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 110));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 16, 0, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 16, 0, 2));
const TUNNEL: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 16, 0, 3));
const PORT: u16 = 8_080;
