//! Any datagrams from a client of the control socket.

use std::collections::BTreeSet;

use lvs_core::{Config, Director, Heap, Scheduler, Seed};
use lvs_forward::host::Host;
use lvs_forward::{Forwarder, Options};
use lvs_std::control::{Backend as _, Controller, Local, NoDaemons, Session, convert};

/// The input is cut into datagrams, each behind two bytes of length. The director must take any of them, answer each of
/// their messages by well-formed ones, and afterwards have just those services that the desired says it has.
pub fn control(input: &[u8]) {
    let seed = Seed::from_bytes([7; 16]);
    let director = Director::new(Config::new(seed), Heap::<Scheduler>::with_capacity(64));
    let host: Host = Host::new(seed);
    let local = Local::new(director, Box::new(Forwarder::new(host, Options::new())));
    let mut controller = Controller::new(local.clone(), Box::new(NoDaemons));
    let mut session = Session::new(input.first().is_none_or(|byte| byte & 1 == 0));
    let mut rest = input;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let (datagram, next) = behind.split_at(usize::from(u16::from_le_bytes(*length)).min(behind.len()));
        for answer in session.answer(datagram, &mut controller) {
            check_messages(&answer);
        }
        rest = next;
    }
    let declared: BTreeSet<_> = controller
        .desired()
        .services()
        .filter(|(name, declared)| convert::service_config(name.family(), &declared.spec).is_some())
        .filter_map(|(name, declared)| Some((convert::key(name)?, declared)))
        .map(|(key, declared)| {
            let used = |server: &&lvs_std::control::DesiredServer| {
                convert::server_config(server.address, &server.spec).is_some()
            };
            (key, declared.servers.iter().filter(used).count())
        })
        .collect();
    let held = local.with(|director, _, _| -> BTreeSet<_> {
        director.services().map(|service| (service.key(), director.servers(service.key()).count())).collect()
    });
    assert_eq!(held, Ok(declared));
}

/// Messages one behind the other, none of them past the end.
fn check_messages(mut bytes: &[u8]) {
    assert!(!bytes.is_empty());
    while !bytes.is_empty() {
        let length =
            bytes.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize).unwrap_or_default();
        assert!(length >= 16 && length <= bytes.len(), "{length} of {}", bytes.len());
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}
