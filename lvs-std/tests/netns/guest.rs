//! A director with the MAC addresses of its machine's interfaces, beside a kernel that has the virtual address too and
//! forwards: services are the director's, and everything else is the kernel's.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::io;
use std::thread;
use std::time::Instant;

use lvs_core::{Family, Protocol};
use lvs_forward::host::Prefix;
use lvs_std::control::{ServerSpec, ServiceName, ServiceSpec, TableCommand};
use lvs_std::device::guard::{Entry, Guarded, KernelGuard};
use lvs_std::device::mark::MarkRule;
use lvs_std::lab::Lab;
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::runtime::{Runtime, RuntimeHandle};

use crate::arms::{Arms, LONG, SERVER, VIP};
use crate::word::{fetch, listen};

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    for workers in [1, 2] {
        let name = format!("a guest with {workers} workers and the kernel beside it get what is theirs");
        trials.push(trial(name, move || beside_the_kernel(lab, workers)));
    }
    trials.push(trial("an address for which the kernel answers too is said while it does", move || {
        contested(lab)
    }));
    trials.push(trial("a guest goes on on an interface that was made again", move || remade(lab)));
    trials
        .push(trial("a guard takes many interfaces and marks, and says what is refused", move || many(lab)));
    trials
}

struct Net(Arms);

impl Net {
    /// The director's machine has the virtual address on eth0, as keepalived puts it there, listens at port 22 of all
    /// its addresses, and forwards.
    fn new(lab: Lab) -> Outcome<Self> {
        let net = Arms::new(lab)?;
        net.director.set_sysctl("net.ipv4.ip_forward", "1")?;
        // The client knows the machine as a router: a reply that the kernel forwards as it is would arrive.
        net.client.add_route(IpAddr::from([0; 4]), 0, MACHINE)?;
        net.director.add_address("eth0", MACHINE, 24)?;
        net.director.add_address("eth0", VIP, 32)?;
        net.director.set_sysctl("net.ipv6.conf.all.forwarding", "1")?;
        net.client.add_address("eth0", v6(1, 2), 64)?;
        net.director.add_address("eth0", v6(1, 1), 64)?;
        net.director.add_address("eth0", VIP6, 128)?;
        net.client.add_route(IpAddr::from([0_u16; 8]), 0, v6(1, 1))?;
        listen(&net.director, 22, "machine")?;
        for port in [80, 81, 8_080, 9_000] {
            listen(&net.server, port, "server")?;
        }
        let net = Self(net);
        net.join_server()?;
        Ok(net)
    }

    fn join_server(&self) -> Outcome {
        let Self(net) = self;
        net.join_server()?;
        net.director.add_address("eth1", IpAddr::from([10, 2, 0, 1]), 24)?;
        net.director.add_address("eth1", v6(2, 1), 64)?;
        net.server.add_address("eth0", v6(2, 0x11), 64)?;
        net.server.add_route(IpAddr::from([0_u16; 8]), 0, v6(2, 0xfe))?;
        Ok(())
    }

    fn start(&self, workers: usize) -> Outcome<Runtime> {
        self.0.start(&format!(
            "[director]\nworkers = {workers}\n{}",
            "[[interface]]\nname = \"eth0\"\nmac = \"same\"\naddresses = [\"10.1.0.254/24\", \"fd00:1::fe/64\"]\n\
             [[interface]]\nname = \"eth1\"\nmac = \"same\"\naddresses = [\"10.2.0.254/24\", \"fd00:2::fe/64\"]\n\
             [[mark]]\nmark = 7\nprotocol = \"tcp\"\nto = \"10.1.0.100/32\"\nports = [8080]\n\
             [[service]]\nprotocol = \"tcp\"\naddress = \"10.1.0.100\"\nport = 80\n\
             [[service.server]]\naddress = \"10.2.0.11\"\nport = 80\nmethod = \"nat\"\n\
             [[service]]\nprotocol = \"tcp\"\naddress = \"fd00:1::100\"\nport = 80\n\
             [[service.server]]\naddress = \"fd00:2::11\"\nport = 80\nmethod = \"nat\"\n\
             [[service]]\nmark = 7\nfamily = \"v4\"\n\
             [[service.server]]\naddress = \"10.2.0.11\"\nport = 8080\nmethod = \"nat\"\n"
        ))
    }

    /// Who answers the client at this address and port, so many times.
    fn answers(&self, address: IpAddr, port: u16, times: usize) -> Result<Vec<String>, io::Error> {
        let ask = || (0..times).map(|_| fetch(SocketAddr::new(address, port))).collect();
        self.0.client.run(ask).map_err(io::Error::other)?
    }

    /// Waits until the real server answers at this port, so many times in a row.
    fn is_answered(&self, port: u16, times: usize) -> Outcome {
        let since = Instant::now();
        loop {
            match self.answers(VIP, port, times) {
                Ok(answers) if answers.iter().all(|word| word == "server") => return Ok(()),
                other if since.elapsed() > LONG => return Err(format!("port {port}: {other:?}").into()),
                Ok(_) | Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

fn beside_the_kernel(lab: Lab, workers: usize) -> Outcome {
    let net = Net::new(lab)?;
    let runtime = net.start(workers)?;
    let director = runtime.handle();
    no_problem(&director);
    // The first answer may take a moment, since nobody knows anybody yet.
    net.is_answered(80, 1)?;
    assert_eq!(net.answers(VIP, 80, 10)?, ["server"; 10], "the kernel resets nothing, and forwards no reply");
    assert_eq!(net.answers(VIP, 8_080, 4)?, ["server"; 4], "a service by mark");
    assert_eq!(
        net.answers(VIP, 22, 4)?,
        ["machine"; 4],
        "the virtual address has the machine's services as well"
    );
    assert_eq!(net.answers(MACHINE, 22, 4)?, ["machine"; 4], "so have its own addresses");
    let since = Instant::now();
    while net.answers(VIP6, 80, 1).is_err() {
        assert!(since.elapsed() < LONG, "no answer over IPv6");
    }
    assert_eq!(net.answers(VIP6, 80, 10)?, ["server"; 10], "the same over IPv6");
    assert_eq!(net.answers(VIP6, 22, 4)?, ["machine"; 4]);
    let check = net.0.director.run(|| fetch(SocketAddr::new(SERVER, 80)))??;
    assert_eq!(check, "server", "the machine's own connections to a real server go on");

    let refused = net.answers(VIP, 81, 1).map_err(|error| error.kind());
    assert_eq!(refused, Err(io::ErrorKind::ConnectionRefused), "what has no service is the kernel's");
    let web = ServiceName::tcp(SocketAddr::new(VIP, 81));
    director.with_controller(|controller| {
        controller.submit(TableCommand::NewService(web, ServiceSpec::new(Family::V4, "rr")))?;
        controller.submit(TableCommand::NewServer(web, SocketAddr::new(SERVER, 81), ServerSpec::new(0, 1)))
    })?;
    net.is_answered(81, 1)?;
    assert_eq!(net.answers(VIP, 81, 4)?, ["server"; 4], "a service that was added while it runs");
    director.with_controller(|controller| controller.submit(TableCommand::DelService(web)))?;
    let since = Instant::now();
    while net.answers(VIP, 81, 1).map_err(|error| error.kind()) != Err(io::ErrorKind::ConnectionRefused) {
        assert!(since.elapsed() < LONG, "a service that is gone is the kernel's again");
    }
    drop(runtime);
    Ok(())
}

fn remade(lab: Lab) -> Outcome {
    let net = Net::new(lab)?;
    let runtime = net.start(1)?;
    net.is_answered(80, 1)?;
    net.0.director.remove_interface("eth1")?;
    net.join_server()?;
    // What keeps the new interface's frames from the kernel follows a little later.
    net.is_answered(80, 10)?;
    drop(runtime);
    Ok(())
}

fn many(lab: Lab) -> Outcome {
    let (node, other) = (lab.node("many")?, lab.node("other")?);
    let names: Vec<String> = (0..8).map(|number| format!("eth{number}")).collect();
    for name in &names {
        lab.connect((&node, name), (&other, name))?;
    }
    let to = Prefix::new(VIP, 32).ok_or("no prefix")?;
    let marks: Vec<MarkRule> = (1..=300)
        .map(|port| MarkRule { mark: 1, protocol: Some(Protocol::Tcp), destination: to, ports: port..=port })
        .collect();
    let guarded = |name: &str| Guarded { interface: name.to_owned(), vlans: vec![None] };
    let shared: Vec<Guarded> = names.iter().map(|name| guarded(name)).collect();
    let guard = node.run(|| KernelGuard::open(&shared, &marks))?;
    let mut guard = guard?;
    let services = |count: u16| (1..=count).map(|port| Entry::Service(6, VIP, port)).collect();
    guard.set(services(5_000))?;
    guard.set(services(10))?;
    let no_name = guarded("an interface's name is shorter");
    let refused = node.run(|| KernelGuard::open(&[no_name], &[]))?.map(drop);
    assert!(refused.is_err_and(|error| error.to_string().starts_with("nftables refuses")));
    Ok(())
}

fn contested(lab: Lab) -> Outcome {
    let net = Net::new(lab)?;
    let configuration = "[[interface]]\nname = \"eth0\"\nmac = \"own\"\naddresses = [\"10.1.0.254/24\"]\n\
         [[service]]\nprotocol = \"tcp\"\naddress = \"10.1.0.100\"\nport = 80\n";
    let runtime = net.0.start(configuration)?;
    let said =
        || runtime.handle().problems().list().iter().map(|one| one.part.to_string()).collect::<Vec<_>>();
    assert_eq!(said(), ["this machine's address 10.1.0.100"]);
    // The director is a host of its own there, so the address belongs on lo, where arp_ignore hides it.
    net.0.director.remove_address("eth0", VIP, 32)?;
    let since = Instant::now();
    while !said().is_empty() {
        assert!(since.elapsed() < LONG, "{:?}", said());
        thread::sleep(Duration::from_millis(20));
    }
    net.0.director.add_address("lo", VIP, 32)?;
    while said().is_empty() {
        assert!(since.elapsed() < LONG, "the kernel answers for addresses of lo as well");
        thread::sleep(Duration::from_millis(20));
    }
    net.0.director.set_sysctl("net.ipv4.conf.all.arp_ignore", "1")?;
    while !said().is_empty() {
        assert!(since.elapsed() < LONG, "{:?}", said());
        thread::sleep(Duration::from_millis(20));
    }
    drop(runtime);
    Ok(())
}

fn no_problem(director: &RuntimeHandle) {
    assert!(director.problems().list().is_empty(), "{:?}", director.problems());
}

/// A host of the clients' network, 1, or the servers', 2.
const fn v6(network: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, network, 0, 0, 0, 0, 0, host))
}

const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
const VIP6: IpAddr = v6(1, 0x100);
