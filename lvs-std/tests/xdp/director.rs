//! A director by `AF_XDP` beside the machine's own stack, with addresses that come and go.

use core::net::SocketAddr;
use std::time::Instant;

use lvs_core::{Config, Director, Heap, Method, Scheduler, ServerConfig, ServiceConfig, ServiceKey};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Forwarder, Options};
use lvs_std::device::xdp::{self, Attach};
use lvs_std::lab::Lab;
use lvs_std::lab::harness::{Outcome, Trial, trial};
use lvs_std::worker::{Worker, WorkerOptions};

use crate::options;
use crate::traffic::{PATIENCE, exchange, serve};

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (how, own) in [("of its own", true), ("that is the machine's", false)] {
        trials.push(trial(
            format!("a director with a MAC address {how} leaves the machine its traffic, and follows its addresses"),
            move || beside_the_machine(lab, own),
        ));
    }
    trials
}

/// Client and real server on one cable each, director and machine in one node between them.
fn beside_the_machine(lab: Lab, own: bool) -> Outcome {
    let (client, middle, server) = (lab.node("client")?, lab.node("middle")?, lab.node("server")?);
    lab.connect((&client, "eth0"), (&middle, "eth0"))?;
    lab.connect((&server, "eth0"), (&middle, "eth1"))?;
    client.add_address("eth0", [192, 0, 2, 7].into(), 24)?;
    server.add_address("eth0", [10, 0, 1, 11].into(), 24)?;
    server.add_route([0, 0, 0, 0].into(), 0, [10, 0, 1, 254].into())?;
    // The machine itself has an address on either side.
    middle.add_address("eth0", [192, 0, 2, 1].into(), 24)?;
    middle.add_address("eth1", [10, 0, 1, 1].into(), 24)?;

    let macs = [1, 2].map(|number| own.then_some([2, 0, 0x5e, 0, 0x53, number]));
    let ports = [("eth0", macs[0]), ("eth1", macs[1])];
    let (opened, filter) = middle.run(|| xdp::open(&ports, &options(Attach::Native)))??;
    let seed = lvs_std::random_seed()?;
    let mut host: Host = Host::new(seed);
    let mut devices = Vec::new();
    for (opened, address) in opened.into_iter().zip([[192, 0, 2, 254], [10, 0, 1, 254]]) {
        let port =
            host.add_port(Port::ethernet(MacAddress(opened.properties.mac), opened.properties.mtu as u16))?;
        host.add_address(port, address.into(), 24)?;
        devices.push(opened.device);
    }
    let mut director = Director::new(Config::new(seed), Heap::with_capacity(1_000));
    let vip: SocketAddr = "192.0.2.100:80".parse()?;
    let service = ServiceKey::tcp(vip.ip(), 80);
    director.add_service(service, ServiceConfig::new(Scheduler::from_name("rr").ok_or("no rr")?))?;
    director.add_server(service, ServerConfig::new("10.0.1.11:80".parse()?, Method::Nat))?;
    let forwarder = Box::new(Forwarder::new(host, Options::new()));
    let (mut worker, handle, _events) = Worker::new(director, forwarder, devices, WorkerOptions::default())?;
    worker.fill_address_filter(&filter, [[192, 0, 2, 1].into(), [10, 0, 1, 1].into()])?;
    middle.run(|| handle.keep_address_filter(&filter, |error| panic!("{error}")))??;
    let worker = middle.spawn("director", move || worker.run())?;

    serve(&server, "10.0.1.11:80".parse()?, 1)?;
    serve(&middle, "192.0.2.1:81".parse()?, 2)?;
    assert_eq!(exchange(&client, "192.0.2.1:81".parse()?, 100_000, 100_000)?, 2, "the machine answers");
    let error = exchange(&client, vip, 10, 10).expect_err("nobody has that address yet");
    assert!(matches!(error.kind(), std::io::ErrorKind::HostUnreachable), "{error}");

    handle.with(move |_, forwarder, _| forwarder.host_mut().add_virtual_address(vip.ip()))??;
    let began = Instant::now();
    loop {
        match exchange(&client, vip, 100_000, 100_000) {
            Ok(server) => break assert_eq!(server, 1),
            Err(_) if began.elapsed() < PATIENCE => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The machine's own connections to the real server are not the director's, though they come from a real server.
    assert_eq!(exchange(&middle, "10.0.1.11:80".parse()?, 100_000, 100_000)?, 1);
    assert_eq!(exchange(&client, "192.0.2.1:81".parse()?, 100_000, 100_000)?, 2);
    handle.stop();
    let _ = worker.join().expect("the worker does not panic");
    Ok(())
}
