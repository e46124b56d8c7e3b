//! Rates, as IPVS estimates and rounds them.

use core::ops::AddAssign;

use crate::model::traffic::Traffic;

/// Counts the traffic of something, and estimates its rates.
///
/// Three things are as in IPVS. What is shown is a copy that is taken every two seconds, not what was counted up to
/// now. Rates are averages that forget: a quarter of the way to what the last two seconds had. And setting to
/// zero resets nothing but remembers what was shown, so what was counted since the last copy shows up with the next.
///
/// ```
/// use lvs_core::stats::Meter;
/// let mut meter = Meter::ZERO;
/// meter.live_mut().in_packets += 200;
/// assert_eq!(meter.shown().in_packets, 0);
/// meter.tick();
/// assert_eq!((meter.shown().in_packets, meter.rates().in_packets), (200, 25));
/// meter.zero();
/// assert_eq!((meter.shown().in_packets, meter.rates().in_packets), (0, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Meter {
    live: Traffic,
    /// `live` at the last tick.
    copied: Traffic,
    /// `copied` when it was last set to zero.
    zeroed: Traffic,
    /// Estimates: connections and packets per second times 1,024, bytes per second times 32.
    estimates: [u64; 5],
}

/// Traffic per second (`ipvsadm --rate`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Rates {
    /// Connections scheduled (`CPS`).
    pub connections: u64,
    /// Packets from clients (`InPPS`).
    pub in_packets: u64,
    /// Packets from real servers (`OutPPS`).
    pub out_packets: u64,
    /// Bytes from clients (`InBPS`).
    pub in_bytes: u64,
    /// Bytes from real servers (`OutBPS`).
    pub out_bytes: u64,
}

impl AddAssign for Rates {
    /// What several directors have, together.
    fn add_assign(&mut self, other: Self) {
        let Self { connections, in_packets, out_packets, in_bytes, out_bytes } = other;
        self.connections += connections;
        self.in_packets += in_packets;
        self.out_packets += out_packets;
        self.in_bytes += in_bytes;
        self.out_bytes += out_bytes;
    }
}

impl Meter {
    /// Nothing counted.
    pub const ZERO: Self =
        Self { live: Traffic::ZERO, copied: Traffic::ZERO, zeroed: Traffic::ZERO, estimates: [0; 5] };

    /// What was counted up to now, whatever was set to zero.
    #[must_use]
    pub const fn live(&self) -> Traffic {
        self.live
    }

    /// What was counted up to now, for counting on.
    #[inline]
    pub const fn live_mut(&mut self) -> &mut Traffic {
        &mut self.live
    }

    /// Two seconds are over: takes the copy that is shown and moves the estimates. While
    /// [`run_estimation`](crate::config::Tuning::run_estimation) is off, nobody calls this, and both stay as they are.
    pub fn tick(&mut self) {
        let (now, before) = (values(self.live), values(self.copied));
        for (((estimate, now), before), shift) in self.estimates.iter_mut().zip(now).zip(before).zip(SHIFTS) {
            let rate = now.wrapping_sub(before) << shift;
            *estimate = estimate.wrapping_add_signed(rate.wrapping_sub(*estimate).cast_signed() >> 2);
        }
        self.copied = self.live;
    }

    /// Whether a tick would change anything.
    pub(crate) fn moves(&self) -> bool {
        self.live != self.copied || self.estimates != [0; 5]
    }

    /// The traffic up to the last tick, since it was set to zero.
    #[must_use]
    pub fn shown(&self) -> Traffic {
        let since = |of: fn(&Traffic) -> u64| of(&self.copied).wrapping_sub(of(&self.zeroed));
        Traffic {
            connections: since(|traffic| traffic.connections),
            in_packets: since(|traffic| traffic.in_packets),
            out_packets: since(|traffic| traffic.out_packets),
            in_bytes: since(|traffic| traffic.in_bytes),
            out_bytes: since(|traffic| traffic.out_bytes),
        }
    }

    /// The rates estimated at the last tick, rounded to the nearest whole, of two the lower one.
    #[must_use]
    pub const fn rates(&self) -> Rates {
        let [connections, in_packets, out_packets, in_bytes, out_bytes] = self.estimates;
        Rates {
            connections: (connections.wrapping_add(0x1ff)) >> 10,
            in_packets: (in_packets.wrapping_add(0x1ff)) >> 10,
            out_packets: (out_packets.wrapping_add(0x1ff)) >> 10,
            in_bytes: (in_bytes.wrapping_add(0xf)) >> 5,
            out_bytes: (out_bytes.wrapping_add(0xf)) >> 5,
        }
    }

    /// Sets what is shown to zero (`ipvsadm -Z`).
    pub const fn zero(&mut self) {
        // Nothing is reset, only remembered: what was counted since the last copy shows up with the next one, as in
        // IPVS.
        self.zeroed = self.copied;
        self.estimates = [0; 5];
    }
}

const fn values(traffic: Traffic) -> [u64; 5] {
    let Traffic { connections, in_packets, out_packets, in_bytes, out_bytes } = traffic;
    [connections, in_packets, out_packets, in_bytes, out_bytes]
}

/// Two seconds' worth to the estimates' units: times 1,024 or 32, divided by two.
const SHIFTS: [u32; 5] = [9, 9, 9, 4, 4];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meter(packets: u64, bytes: u64) -> Meter {
        let mut meter = Meter::ZERO;
        (meter.live.in_packets, meter.live.in_bytes) = (packets, bytes);
        meter
    }

    #[test]
    fn rates_follow_in_quarters() {
        let mut meter = Meter::ZERO;
        let mut seen = [(0, 0); 8];
        for rates in &mut seen {
            meter.live.in_packets += 2_000;
            meter.live.in_bytes += 120_000;
            meter.tick();
            *rates = (meter.rates().in_packets, meter.rates().in_bytes);
        }
        // 1000 and 60000 times 1 - (3/4)^n, to the nearest whole, of two the lower one.
        let expected = [
            (250, 15_000),
            (437, 26_250),
            (578, 34_687),
            (684, 41_016),
            (763, 45_762),
            (822, 49_321),
            (867, 51_991),
            (900, 53_993),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn five_packets_are_shown_as_recorded() {
        // Linux 6.1.192: five segments of 44 bytes; two ticks later 21 bytes per second, then 15.
        let mut meter = meter(5, 220);
        let rates = [(); 3].map(|()| {
            meter.tick();
            (meter.rates().in_packets, meter.rates().in_bytes)
        });
        assert_eq!(rates, [(1, 27), (0, 21), (0, 15)]);
    }

    #[test]
    fn a_rate_falls_to_nothing() {
        let mut meter = meter(1_000_000, 64_000_000);
        for _ in 0..80 {
            meter.tick();
        }
        assert_eq!(meter.rates(), Rates::default());
        assert_eq!(meter.shown().in_packets, 1_000_000);
    }

    #[test]
    fn a_single_packet_is_a_rate_of_nothing() {
        let mut meter = meter(1, 60);
        meter.tick();
        // 128 of 1,024 parts of a packet, 240 of 32 parts of a byte.
        assert_eq!((meter.rates().in_packets, meter.rates().in_bytes), (0, 7));
    }

    #[test]
    fn what_was_not_copied_survives_zeroing() {
        let mut meter = meter(10, 600);
        meter.tick();
        meter.live.in_packets += 5;
        meter.zero();
        assert_eq!(meter.shown(), Traffic::ZERO);
        meter.tick();
        assert_eq!(meter.shown().in_packets, 5);
        assert_eq!(meter.live().in_packets, 15);
    }

    proptest! {
        #[test]
        fn any_counts_are_borne_and_a_steady_rate_is_found(start: [u64; 5], per_second in 0_u64..1 << 40) {
            let [connections, in_packets, out_packets, in_bytes, out_bytes] = start;
            let mut meter = Meter::ZERO;
            meter.live = Traffic { connections, in_packets, out_packets, in_bytes, out_bytes };
            meter.tick();
            meter.zero();
            for _ in 0..200 {
                meter.live.out_bytes = meter.live.out_bytes.wrapping_add(2 * per_second);
                meter.tick();
            }
            prop_assert!(per_second.abs_diff(meter.rates().out_bytes) <= 1);
            prop_assert_eq!(meter.shown().out_bytes, 400 * per_second);
        }
    }
}
