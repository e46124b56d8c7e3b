//! A director that shares its addresses with this machine's own stack, by a TUN interface.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use lvs_core::{Config, Director, Family, Heap, Scheduler, Seed};
use lvs_forward::host::{Host, MacAddress, Port};
use lvs_forward::{Forwarder, Options, PortId};
use lvs_std::device::packet::{self, PacketOptions};
use lvs_std::device::tun::{self, Layer};
use lvs_std::lab::harness::{Trial, trial};
use lvs_std::lab::{Lab, Node};
use lvs_std::worker::{End, Worker, WorkerOptions};

pub(crate) fn trials(lab: Lab) -> Vec<Trial> {
    vec![trial("what is to an own address and no service reaches this machine's stack", move || {
        let (client, director) = (lab.node("client")?, lab.node("director")?);
        lab.connect((&client, "eth0"), (&director, "eth0"))?;
        let (mac, tun_mtu) = ([2, 0, 0, 0, 0, 1], 1_500);
        let mut options = PacketOptions::default();
        options.mac = Some(mac);
        let wire = director.run(|| packet::open("eth0", &options))??;
        let stack = director.run(|| tun::open("local", Layer::Ip))??;
        let mut host: Host = Host::new(Seed::from_bytes([8; 16]));
        let port = host.add_port(Port::ethernet(MacAddress(mac), wire.mtu as u16))?;
        let local = host.add_port(Port::bare(tun_mtu))?;
        for family in [Family::V4, Family::V6] {
            let (own, other, prefix) = addresses(family);
            client.add_address("eth0", other.parse()?, prefix)?;
            host.add_address(port, own.parse()?, prefix)?;
            director.add_address("local", own.parse()?, prefix)?;
        }
        let mut options = Options::new();
        options.local = Some(local);
        let (mut worker, handle, _) = Worker::new(
            Director::new(Config::new(Seed::from_bytes([7; 16])), Heap::<Scheduler>::with_capacity(10)),
            Box::new(Forwarder::new(host, options)),
            vec![wire.device, stack.device],
            WorkerOptions::default(),
        )?;
        let thread = director.spawn("worker", move || worker.run())?;
        for family in [Family::V4, Family::V6] {
            let (own, ..) = addresses(family);
            talk(&client, &director, own)?;
        }
        handle.stop();
        assert_eq!(thread.join().expect("the worker does not panic"), End::Stopped);
        let numbers = handle.snapshot();
        assert!(numbers.worker.passed > 0 && numbers.forwarder.routed > 0, "{numbers:?}");
        for port in &numbers.ports {
            let (came, left) = (port.received, port.transmitted);
            assert!(came.merged > 0 && left.merged > 0, "merged frames come and go merged: {numbers:?}");
            assert_eq!(came.cut + came.invalid + left.lost(), 0, "{numbers:?}");
        }
        assert_eq!(numbers.worker.cut, 0, "nothing had to be segmented here");
        assert_eq!(PortId(1), local);
        Ok(())
    })]
}

/// The director's address, the client's, and the length of their prefix.
fn addresses(family: Family) -> (&'static str, &'static str, u8) {
    match family {
        Family::V4 => ("192.0.2.1", "192.0.2.7", 24),
        Family::V6 => ("2001:db8::1", "2001:db8::7", 64),
    }
}

/// Sends a mebibyte there and back by TCP.
fn talk(client: &Node, director: &Node, own: &str) -> Result<(), Box<dyn core::error::Error>> {
    let listener = director.run(|| TcpListener::bind((own, 9_000)))??;
    let echo = director.spawn("echo", move || {
        let (mut stream, _) = listener.accept()?;
        let mut data = vec![0; 1 << 20];
        stream.read_exact(&mut data)?;
        stream.write_all(&data)
    })?;
    let data: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
    let mut stream = client.run(|| TcpStream::connect((own, 9_000)))??;
    stream.write_all(&data)?;
    let mut back = Vec::new();
    stream.read_to_end(&mut back)?;
    echo.join().expect("the echo does not panic")?;
    assert!(back == data, "{own}: what comes back is what was sent");
    Ok(())
}
