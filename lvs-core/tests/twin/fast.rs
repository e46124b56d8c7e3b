//! Packets decided in the three ways that there are.

use core::net::SocketAddr;

use lvs_core::batch::{AddressFamily, FastKey, Hit, HitHandler, Next, V4, V6};
use lvs_core::*;

/// How packets are decided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    One,
    Batch,
    /// Runs of packets that the fast tier takes, and the others one by one.
    Fast,
}

/// The verdicts on packets, as they come.
struct Verdicts(Vec<Verdict>);

impl<F: AddressFamily> HitHandler<F> for Verdicts {
    fn hit(&mut self, key: &FastKey<F>, hit: Hit<'_, F>) -> Next {
        let forward = hit.forward();
        let target: (F::Bits, u16) = hit.target().unwrap();
        assert_eq!(Some(target.0), F::bits(&forward.target.ip()));
        assert_eq!(target.1, forward.target.port());
        assert_eq!((hit.method(), hit.server()), (forward.method, forward.server));
        assert_eq!(hit.direction(), forward.direction);
        assert_eq!(hit.is_nat(), forward.method == Method::Nat);
        assert_eq!(hit.is_direct(), forward.method == Method::Direct);
        assert_eq!(hit.tunnel().map(Method::Tunnel), Some(forward.method).filter(|_| hit.tunnel().is_some()));
        assert_eq!(hit.tunnel().is_some(), matches!(forward.method, Method::Tunnel(_)));
        if hit.direction() == Direction::Request {
            assert_eq!(SocketAddr::new(hit.server_address().ip(), target.1), forward.target);
        }
        assert_eq!(key.is_passing(), hit.direction() == Direction::Reply);
        self.0.push(Verdict::Forward(forward));
        Next::Go
    }

    fn decided(&mut self, _: &FastKey<F>, verdict: &Verdict) -> Next {
        self.0.push(*verdict);
        Next::Go
    }
}

/// The verdicts on packets in order.
pub(crate) fn verdicts<S: Store>(
    director: &mut Director<S>,
    now: Tick,
    packets: &[Packet],
    by: By,
) -> Vec<Verdict> {
    match by {
        By::One => packets.iter().map(|packet| director.decide(now, packet, Inspected::Nothing)).collect(),
        By::Batch => {
            let mut verdicts = vec![Verdict::Drop(Reason::TableFull); packets.len()];
            assert_eq!(director.decide_batch(now, packets, &mut verdicts), packets.len());
            verdicts
        }
        By::Fast => by_fast_batches(director, now, packets),
    }
}

fn by_fast_batches<S: Store>(director: &mut Director<S>, now: Tick, packets: &[Packet]) -> Vec<Verdict> {
    let mut verdicts = Verdicts(Vec::new());
    let mut rest = packets;
    while let Some((first, others)) = rest.split_first() {
        let batch = director.next_batch();
        let taken = rest
            .iter()
            .take_while(|packet| match packet.flow.addresses.family() {
                Family::V4 => FastKey::<V4>::of(packet).is_some_and(|key| batch.push(key)),
                Family::V6 => FastKey::<V6>::of(packet).is_some_and(|key| batch.push(key)),
            })
            .count();
        if taken == 0 {
            verdicts.0.push(director.decide(now, first, Inspected::Nothing));
            rest = others;
        } else {
            assert_eq!(director.decide_fast(now, &mut verdicts), taken);
            rest = &rest[taken..];
        }
    }
    verdicts.0
}
