//! SCTP associations: when they start, when they count, when their tuple is free again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use lvs_core::packet::Chunk;
use lvs_core::*;
use support::*;

const CLIENT: [u8; 4] = [192, 0, 2, 7];
const SIGNALS: ServiceKey = ServiceKey::Address { protocol: Protocol::Sctp, address: VIP, port: 2_905 };

fn start(config: Config, method: Method) -> Director<Heap> {
    let mut director = Director::new(config, Heap::with_capacity(64));
    director.add_service(SIGNALS, scheduler("rr")).unwrap();
    for number in 1..=2 {
        director.add_server(SIGNALS, server(number, method, 1)).unwrap();
    }
    director
}

fn from_client(director: &mut Director<Heap>, chunk: Chunk) -> Verdict {
    director.decide(Tick::ZERO, &request(SIGNALS, CLIENT, 2_905, Content::Sctp(chunk)), Inspected::Nothing)
}

fn from_server(director: &mut Director<Heap>, chunk: Chunk) -> Verdict {
    director.decide(
        Tick::ZERO,
        &answer(Protocol::Sctp, 2, CLIENT, 2_905, Content::Sctp(chunk)),
        Inspected::Nothing,
    )
}

/// The association's state, and its server's active and inactive connections.
fn seen(director: &Director<Heap>) -> (String, u32, u32) {
    let connection = director.connections(Tick::ZERO).next().unwrap();
    let server = director.server(connection.server).unwrap();
    (connection.state.to_string(), server.active(), server.inactive())
}

#[test]
fn only_an_established_association_is_active() {
    let mut director = start(config(), Method::Nat);
    let _ = from_client(&mut director, Chunk::Init);
    assert_eq!(seen(&director), ("INIT1".into(), 0, 1));
    let _ = from_server(&mut director, Chunk::InitAck);
    assert_eq!(seen(&director), ("C-SENT".into(), 0, 1));
    let _ = from_client(&mut director, Chunk::CookieEcho);
    assert_eq!(seen(&director), ("C-REPLIED".into(), 0, 1));
    let _ = from_server(&mut director, Chunk::CookieAck);
    assert_eq!(seen(&director), ("ESTABLISHED".into(), 1, 0));
    let _ = from_server(&mut director, Chunk::Shutdown);
    assert_eq!(seen(&director), ("S-SENT".into(), 0, 1));
    assert_eq!(director.sweep(Tick::ZERO.plus_secs(60), 64), 0);
    assert_eq!(director.sweep(Tick::ZERO.plus_secs(61), 64), 1);
}

#[test]
fn only_init_starts_unless_sloppy_and_abort_never() {
    for (sloppy, starting) in [(false, &[Chunk::Init][..]), (true, &[Chunk::Init, Chunk::Data, Chunk::Error])]
    {
        for chunk in [Chunk::Init, Chunk::Data, Chunk::Error, Chunk::Abort] {
            let mut config = config();
            config.tuning.sloppy_sctp = sloppy;
            let verdict = from_client(&mut start(config, Method::Nat), chunk);
            if starting.contains(&chunk) {
                assert!(forwarded(verdict).is_some(), "{chunk:?}");
            } else {
                assert_eq!(verdict, Verdict::Pass(Reason::NotStarting), "{chunk:?}");
            }
        }
    }
}

#[test]
fn an_init_on_a_closed_association_starts_anew() {
    let mut director = start(config(), Method::Direct);
    let old = forwarded(from_client(&mut director, Chunk::Init)).unwrap();
    let again = forwarded(from_client(&mut director, Chunk::Init)).unwrap();
    assert_eq!(again.connection, old.connection, "still in its handshake");
    let _ = from_client(&mut director, Chunk::Abort);
    let late = forwarded(from_client(&mut director, Chunk::Data)).unwrap();
    assert_eq!(late.connection, old.connection, "only an INIT starts");
    let new = forwarded(from_client(&mut director, Chunk::Init)).unwrap();
    assert_ne!((new.connection, new.server), (old.connection, old.server));
}
