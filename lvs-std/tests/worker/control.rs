//! Commands to a running worker, and what it tells.

use core::time::Duration;
use std::io;
use std::thread;

use lvs_core::{Event, Method};
use lvs_forward::{Frame, PortId};
use lvs_std::control::{Answer, CommandError, Controller, Errno, NoDaemons, Query, TableCommand, convert};
use lvs_std::device::{Device, PairOptions, Receive, ReceiveCounters, pair};
use lvs_std::worker::{End, Worker, WorkerError, WorkerGone, WorkerOptions};

use crate::world::{
    CLIENT, SERVER, Segment, VIP, World, await_frames, director, forwarder, see, server, service,
};

#[test]
fn a_command_that_waits_when_the_worker_goes_is_answered_all_the_same() {
    let World { worker, handle, .. } = World::empty(&PairOptions::default());
    let asker = handle.clone();
    let waiting = thread::spawn(move || asker.with(|_, _, _| ()));
    // Most likely it waits by then; if not, the answer is the same.
    thread::sleep(Duration::from_millis(50));
    drop(worker);
    assert_eq!(waiting.join().unwrap(), Err(WorkerGone));
    assert_eq!(handle.with(|_, _, _| ()), Err(WorkerGone));
}

#[test]
fn a_running_worker_takes_commands_and_stops() {
    let World { mut worker, handle, events, mut client, server: mut real } =
        World::empty(&PairOptions::default());
    let thread = thread::spawn(move || worker.run());

    let (key, config) = service();
    let mut controller = Controller::new(handle.clone(), Box::new(NoDaemons));
    let (name, spec) = (convert::name(key), convert::service_spec(key.family(), &config));
    let add = TableCommand::NewService(name, spec);
    controller.submit(add.clone()).unwrap();
    assert_eq!(controller.submit(add), Err(CommandError::Refused(Errno::Exists)));
    let config = server(Method::Nat);
    controller.submit(TableCommand::NewServer(name, config.address, convert::server_spec(&config))).unwrap();
    let first = handle.with(move |director, _, _| director.servers(key).next().unwrap().0).unwrap();
    client.send(&Segment::syn(40_000).bytes()).unwrap();
    assert_eq!(see(&await_frames(&mut real)[0]).to, (SERVER, 8_080));
    real.send(&Segment::reply(40_000).bytes()).unwrap();
    assert_eq!(see(&await_frames(&mut client)[0]).from, (VIP, 80));

    let Ok(Answer::Services(services)) = controller.submit(Query::Services) else { panic!() };
    assert_eq!(services.len(), 1);
    assert_eq!((services[0].name, services[0].spec.scheduler.as_str()), (name, "rr"));
    let Ok(Answer::Servers(servers)) = controller.submit(Query::Servers(name)) else { panic!() };
    assert_eq!((servers.len(), servers[0].active), (1, 1));
    let connections = controller.connections().unwrap();
    assert_eq!(connections.len(), 1);
    assert_eq!(connections[0].flow.addresses.source(), CLIENT);
    let event = events.recv_timeout(Duration::from_secs(10)).unwrap();
    let Event::Opened { connection, server: chosen, .. } = event else { panic!("{event:?}") };
    assert_eq!((connection, chosen), (connections[0].id, first));

    controller.submit(TableCommand::DelServer(name, config.address)).unwrap();
    assert_eq!(handle.with(move |director, _, _| director.servers(key).count()), Ok(0));
    assert_eq!(handle.with(move |director, _, _| director.service(key).is_some()), Ok(true));
    controller.submit(TableCommand::DelService(name)).unwrap();
    assert_eq!(handle.with(move |director, _, _| director.services().count()), Ok(0));

    let other = handle.clone();
    other.stop();
    assert_eq!(thread.join().unwrap(), End::Stopped);
    assert_eq!(handle.with(|_, _, _| ()), Err(WorkerGone));
    assert_eq!(
        controller.submit(Query::Services),
        Ok(Answer::Services(Vec::new())),
        "there is nothing to ask for"
    );
    assert_eq!(controller.submit(Query::Info), Err(CommandError::Gone));
    let last = handle.snapshot();
    assert_eq!((last.ports[0].received.frames, last.ports[1].transmitted.frames), (1, 1));
    assert!(last.worker.waits > 0 && last.worker.batches >= 2);
}

#[test]
fn whoever_asks_a_worker_that_ends_is_answered_also_while_what_is_left_of_it_is_kept() {
    for _ in 0..20 {
        let World { mut worker, handle, .. } = World::empty(&PairOptions::default());
        let thread = thread::spawn(move || (worker.run(), worker));
        let (ended, ends) = std::sync::mpsc::channel();
        for _ in 0..4 {
            let (handle, ended) = (handle.clone(), ended.clone());
            thread::spawn(move || {
                while handle.with(|_, _, _| ()) == Ok(()) {}
                ended.send(()).unwrap();
            });
        }
        handle.with(|_, _, _| ()).unwrap();
        handle.stop();
        let (end, _kept) = thread.join().unwrap();
        assert_eq!(end, End::Stopped);
        for _ in 0..4 {
            ends.recv_timeout(Duration::from_secs(60)).expect("an asker waits for ever");
        }
        assert_eq!(handle.with(|_, _, _| ()), Err(WorkerGone));
    }
}

#[test]
fn an_address_is_announced_when_told() {
    let World { mut worker, handle, mut client, .. } = World::empty(&PairOptions::default());
    let thread = thread::spawn(move || worker.run());
    assert_eq!(handle.announce(Some([203, 0, 113, 1].into())), Ok(false));
    assert_eq!(handle.announce(Some(VIP.into())), Ok(true));
    let frame = &await_frames(&mut client)[0];
    assert_eq!(frame[..6], [0xff; 6]);
    assert_eq!((&frame[12..14], &frame[38..42]), (&[8, 6][..], &VIP.octets()[..]));
    handle.stop();
    assert_eq!(thread.join().unwrap(), End::Stopped);
}

#[test]
fn events_that_nobody_fetches_are_counted() {
    let (left, mut client) = pair(&PairOptions::default()).unwrap();
    let (right, _server) = pair(&PairOptions::default()).unwrap();
    let mut director = director(100);
    let (key, config) = service();
    director.add_service(key, config).unwrap();
    director.add_server(key, server(Method::Nat)).unwrap();
    let mut options = WorkerOptions::default();
    options.events = 3;
    let (mut worker, handle, events) =
        Worker::new(director, forwarder(), vec![left, right], options).unwrap();
    for port in 0..10 {
        client.send(&Segment::syn(40_000 + port).bytes()).unwrap();
    }
    let thread = thread::spawn(move || {
        let end = worker.run();
        (end, worker)
    });
    let controller = Controller::new(handle.clone(), Box::new(NoDaemons));
    while controller.connections().unwrap().len() < 10 {}
    handle.stop();
    assert_eq!(thread.join().unwrap().0, End::Stopped);
    assert_eq!(events.try_iter().count(), 3);
    assert_eq!(handle.snapshot().worker.events_lost, 7);
}

#[test]
fn devices_and_ports_must_correspond() {
    let (one, _) = pair(&PairOptions::default()).unwrap();
    let error = Worker::new(director(1), forwarder(), vec![one], WorkerOptions::default()).unwrap_err();
    assert!(matches!(error, WorkerError::Ports { ports: 2, devices: 1 }), "{error}");
}

/// A device that is gone.
struct Gone;

impl Receive for Gone {
    fn receive(&mut self, _: PortId, _: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn counters(&mut self) -> ReceiveCounters {
        ReceiveCounters::default()
    }
}

#[test]
fn a_failed_device_is_left_alone_and_the_last_one_ends_the_worker() {
    let gone = || {
        let (device, _) = pair(&PairOptions::default()).unwrap();
        Device { receive: Box::new(Gone), transmit: device.transmit }
    };
    let (right, mut real) = pair(&PairOptions::default()).unwrap();
    let devices = vec![gone(), right];
    let (mut worker, handle, _) =
        Worker::new(director(1), forwarder(), devices, WorkerOptions::default()).unwrap();
    let thread = thread::spawn(move || worker.run());
    real.send(&Segment::reply(1).bytes()).unwrap();
    while handle.with(|_, forwarder, _| forwarder.counters().passes(reason())).unwrap() == 0 {}
    handle.stop();
    assert_eq!(thread.join().unwrap(), End::Stopped);
    let ports = handle.snapshot().ports;
    assert_eq!((ports[0].failed, ports[1].failed), (true, false));

    let devices = vec![gone(), gone()];
    let (mut worker, ..) = Worker::new(director(1), forwarder(), devices, WorkerOptions::default()).unwrap();
    assert_eq!(worker.run(), End::Failed);
}

/// Why a packet between strangers is passed.
fn reason() -> lvs_forward::PassReason {
    lvs_forward::PassReason::Director(lvs_core::Reason::NoService)
}
