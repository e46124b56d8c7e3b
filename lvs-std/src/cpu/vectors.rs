//! What the processor's vector instructions make faster.

use lvs_core::accel::HashTogether;

use crate::sys::vectors;

/// What [`Director::set_hash_together`](lvs_core::Director::set_hash_together) takes on this machine: the core's hash compiled for AVX-512 or
/// AVX2, or `None` on a machine with neither. A [worker](crate::worker::Worker) sets it.
///
/// ```
/// use lvs_core::{Config, Director, Heap};
/// let store: Heap = Heap::with_capacity(100_000);
/// let mut director = Director::new(Config::new(lvs_std::random_seed()?), store);
/// director.set_hash_together(lvs_std::cpu::hash_together());
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn hash_together() -> Option<HashTogether> {
    vectors::hash_together().next()
}

#[cfg(test)]
mod tests {
    use lvs_core::batch::{BATCH, Brief, Carry, Found, Next};
    use lvs_core::{
        Config, Direction, Director, Method, Packet, Scheduler, Seed, ServerConfig, ServiceConfig,
        ServiceKey, TcpFlags, Tick, Verdict,
    };

    use super::*;

    type Heap = lvs_core::Heap;

    fn director() -> Director<Heap> {
        let mut director = Director::new(Config::new(Seed::from_bytes([9; 16])), Heap::with_capacity(1_000));
        let service = ServiceKey::tcp("10.99.0.1".parse().unwrap(), 80);
        let config = ServiceConfig::new(Scheduler::from_name("rr").unwrap());
        director.add_service(service, config).unwrap();
        let server = ServerConfig::new("10.0.1.11:8080".parse().unwrap(), Method::Nat);
        director.add_server(service, server).unwrap();
        director
    }

    /// A packet of client number `number`, or of the server to it.
    fn brief(number: u32, flags: TcpFlags, reply: bool) -> Brief {
        let (client, port) = (0xc000_0200 + number % 7, 1_024 + number);
        if reply {
            Brief::tcp(0x0a00_010b << 32 | u64::from(client), 8080 << 16 | port, flags, 60).passing()
        } else {
            Brief::tcp(u64::from(client) << 32 | 0x0a63_0001, port << 16 | 80, flags, 60)
        }
    }

    /// How many packets were of known connections, by direction.
    #[derive(Debug, Default, PartialEq)]
    struct Known {
        requests: usize,
        replies: usize,
    }

    impl Carry for Known {
        fn follow(&mut self, _brief: &Brief, found: Found<'_>) -> Next {
            match found.direction() {
                Direction::Request => self.requests += 1,
                Direction::Reply => self.replies += 1,
            }
            Next::Go
        }

        fn carry(&mut self, _packet: &Packet, _verdict: &Verdict) -> Next {
            Next::Go
        }
    }

    #[test]
    fn whatever_hashes_packets_finds_the_connections_that_were_made_one_by_one() {
        for together in vectors::hash_together() {
            let mut director = director();
            director.set_hash_together(Some(together));
            for number in 0..BATCH as u32 {
                for flags in [TcpFlags::SYN, TcpFlags::ACK] {
                    assert!(matches!(
                        director.decide(
                            Tick::ZERO,
                            &brief(number, flags, false).packet(),
                            lvs_core::Inspected::Nothing
                        ),
                        Verdict::Forward(_)
                    ));
                }
            }
            // Whatever is left over when several are hashed at one time.
            for len in 1..=BATCH {
                let packets: Vec<Brief> =
                    (0..len as u32).map(|number| brief(number, TcpFlags::ACK, number % 2 == 1)).collect();
                let mut known = Known::default();
                assert_eq!(director.decide_briefs(Tick::ZERO, &packets, &mut known), len);
                assert_eq!(known, Known { requests: len.div_ceil(2), replies: len / 2 });
            }
        }
    }
}
