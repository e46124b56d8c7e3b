//! What the processor's vector instructions make faster.

use lvs_core::accel::HashTogether;

use crate::sys::vectors;

/// What [`Director::set_hash_together`](lvs_core::Director::set_hash_together) takes on this machine: the core's hash
/// compiled for AVX-512 or AVX2, or `None` on a machine with neither. A [worker](crate::worker::Worker) sets it.
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
    use lvs_core::batch::{AddressFamily, BATCH, FastKey, Hit, HitHandler, Next, V4, V6};
    use lvs_core::{
        Config, Direction, Director, Inspected, Method, Scheduler, Seed, ServerConfig, ServiceConfig,
        ServiceKey, TcpFlags, Tick, Verdict,
    };

    use super::*;

    type Heap = lvs_core::Heap;

    fn director() -> Director<Heap> {
        let mut director = Director::new(Config::new(Seed::from_bytes([9; 16])), Heap::with_capacity(1_000));
        for (address, server) in [("10.99.0.1", "10.0.1.11:8080"), ("2001:db8::1", "[2001:db8:1::11]:8080")] {
            let service = ServiceKey::tcp(address.parse().unwrap(), 80);
            let config = ServiceConfig::new(Scheduler::from_name("rr").unwrap());
            director.add_service(service, config).unwrap();
            director.add_server(service, ServerConfig::new(server.parse().unwrap(), Method::Nat)).unwrap();
        }
        director
    }

    /// An IPv4 packet of client number `number`, or of the server to it.
    fn v4(number: u32, flags: TcpFlags, reply: bool) -> FastKey<V4> {
        let (client, port) = (0xc000_0200 + number % 7, 1_024 + number);
        if reply {
            FastKey::tcp(0x0a00_010b, client, 8080 << 16 | port, flags, 60).passing()
        } else {
            FastKey::tcp(client, 0x0a63_0001, port << 16 | 80, flags, 60)
        }
    }

    /// The IPv6 packet that corresponds to it.
    fn v6(number: u32, flags: TcpFlags, reply: bool) -> FastKey<V6> {
        let site = 0x2001_0db8_u128 << 96;
        let (client, port) = (site | 0xc << 80 | u128::from(number % 7), 1_024 + number);
        if reply {
            FastKey::tcp(site | 1 << 80 | 0x11, client, 8080 << 16 | port, flags, 80).passing()
        } else {
            FastKey::tcp(client, site | 1, port << 16 | 80, flags, 80)
        }
    }

    /// How many packets were of known connections, by direction.
    #[derive(Debug, Default, PartialEq)]
    struct Known {
        requests: usize,
        replies: usize,
    }

    impl<F: AddressFamily> HitHandler<F> for Known {
        fn hit(&mut self, _: &FastKey<F>, hit: Hit<'_, F>) -> Next {
            match hit.direction() {
                Direction::Request => self.requests += 1,
                Direction::Reply => self.replies += 1,
            }
            Next::Go
        }

        fn decided(&mut self, _: &FastKey<F>, _: &Verdict) -> Next {
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
                    for packet in [v4(number, flags, false).packet(), v6(number, flags, false).packet()] {
                        let verdict = director.decide(Tick::ZERO, &packet, Inspected::Nothing);
                        assert!(matches!(verdict, Verdict::Forward(_)));
                    }
                }
            }
            // Whatever is left over when several are hashed at one time.
            for len in 1..=BATCH {
                for family in 0..3 {
                    let batch = director.next_batch();
                    for number in 0..len as u32 {
                        let reply = number % 2 == 1;
                        // One family, the other, or both in turn.
                        let pushed = if family == 0 || family == 2 && number % 3 == 0 {
                            batch.push(v4(number, TcpFlags::ACK, reply))
                        } else {
                            batch.push(v6(number, TcpFlags::ACK, reply))
                        };
                        assert!(pushed);
                    }
                    let mut known = Known::default();
                    assert_eq!(director.decide_fast(Tick::ZERO, &mut known), len);
                    assert_eq!(known, Known { requests: len.div_ceil(2), replies: len / 2 });
                }
            }
        }
    }
}
