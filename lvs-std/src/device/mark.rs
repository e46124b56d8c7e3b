//! Marks frames as a firewall would: by what their headers say, for services by mark.
//!
//! A packet socket sees frames before this machine's firewall could mark them, so the marks of services such as "ports
//! 80 and 443 of these addresses, together" have to come from here.

use core::net::IpAddr;
use core::ops::RangeInclusive;
use std::io;
use std::os::fd::BorrowedFd;

use lvs_core::Protocol;
use lvs_forward::host::Prefix;
use lvs_forward::parse::{Link, Meaning, Parsed, parse};
use lvs_forward::{Fragment, Frame, PortId};

use crate::device::{Device, Receive, ReceiveCounters};

/// Which packets get a mark.
///
/// ```
/// use lvs_core::Protocol;
/// use lvs_forward::host::Prefix;
/// use lvs_std::device::mark::MarkRule;
/// let to = Prefix::new("192.0.2.100".parse()?, 32).ok_or("no prefix")?;
/// let web = MarkRule { mark: 1, protocol: Some(Protocol::Tcp), destination: to, ports: 80..=80 };
/// assert_eq!(web.mark, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a rule is these parts")]
pub struct MarkRule {
    /// The mark, not 0.
    pub mark: u32,
    /// Packets of this protocol, or of any: ICMP messages and later fragments too.
    pub protocol: Option<Protocol>,
    /// Packets to these addresses.
    pub destination: Prefix,
    /// Packets to these ports. All of them stand for packets without ports as well.
    pub ports: RangeInclusive<u16>,
}

impl MarkRule {
    fn applies(&self, to: IpAddr, protocol: u8, port: Option<u16>) -> bool {
        self.protocol.is_none_or(|wanted| wanted.number() == protocol)
            && self.destination.contains(to)
            && match port {
                Some(port) => self.ports.contains(&port),
                None => self.ports == (0..=u16::MAX),
            }
    }
}

/// Gives a frame the mark of the first rule that applies. `link` says how it begins. One to which none applies keeps
/// what it has.
pub fn mark(frame: &mut Frame<'_>, link: Link, rules: &[MarkRule]) {
    if rules.is_empty() {
        return;
    }
    let Ok(Parsed::Ip(layout, meaning)) = parse(frame, link) else { return };
    let Some(addresses) = layout.addresses(frame.bytes()) else { return };
    let port = match meaning {
        Meaning::Flow(packet) if layout.fragment() != Fragment::Later => Some(packet.flow.destination_port),
        Meaning::Flow(_)
        | Meaning::Control(_)
        | Meaning::Error(..)
        | Meaning::Other
        | Meaning::Wrapped(_) => None,
    };
    let applies = |rule: &&MarkRule| rule.applies(addresses.destination(), layout.protocol(), port);
    if let Some(rule) = rules.iter().find(applies) {
        frame.mark = rule.mark;
    }
}

/// The device, whose frames get the mark of the first rule that applies. `link` says how its frames begin. Those
/// to which none applies keep what they have.
///
/// Every frame's headers are read once more for this, and the rules are tried one after the other.
#[must_use]
pub fn marked(device: Device, link: Link, rules: Vec<MarkRule>) -> Device {
    let receive = Marked { device: device.receive, link, rules };
    Device { receive: Box::new(receive), transmit: device.transmit }
}

struct Marked {
    device: Box<dyn Receive>,
    link: Link,
    rules: Vec<MarkRule>,
}

impl Receive for Marked {
    fn receive(&mut self, port: PortId, judge: &mut dyn FnMut(&mut [Frame<'_>])) -> io::Result<usize> {
        let Self { device, link, rules } = self;
        device.receive(port, &mut |frames| {
            for frame in frames.iter_mut() {
                mark(frame, *link, rules);
            }
            judge(frames);
        })
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.device.readiness()
    }

    fn recover(&mut self) -> io::Result<()> {
        self.device.recover()
    }

    fn ended(&self) -> bool {
        self.device.ended()
    }

    fn counters(&mut self) -> ReceiveCounters {
        self.device.counters()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{PairOptions, pair};

    /// A bare IPv4 packet of 28 bytes to a port of 192.0.2.`host`.
    fn packet(protocol: Protocol, host: u8, port: u16) -> Vec<u8> {
        let mut bytes =
            vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol.number(), 0, 0, 198, 51, 100, 7, 192, 0, 2, host];
        let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes.extend([0x9c, 0x40]);
        bytes.extend(port.to_be_bytes());
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        if protocol == Protocol::Udp {
            bytes[24..26].copy_from_slice(&20_u16.to_be_bytes());
        }
        bytes
    }

    #[test]
    fn the_first_rule_that_applies_gives_its_mark() {
        let to = |host: u8, len: u8| Prefix::new([192, 0, 2, host].into(), len).unwrap();
        let rules = vec![
            MarkRule { mark: 1, protocol: Some(Protocol::Tcp), destination: to(100, 32), ports: 80..=80 },
            MarkRule { mark: 1, protocol: Some(Protocol::Tcp), destination: to(100, 32), ports: 443..=443 },
            MarkRule { mark: 2, protocol: None, destination: to(0, 24), ports: 1_000..=1_999 },
        ];
        let (mut network, device) = pair(&PairOptions::default()).unwrap();
        let mut device = marked(device, Link::Bare, rules);
        let cases = [
            (Protocol::Tcp, 100, 80, 1),
            (Protocol::Tcp, 100, 443, 1),
            (Protocol::Udp, 100, 80, 0),
            (Protocol::Tcp, 101, 80, 0),
            (Protocol::Udp, 7, 1_500, 2),
            (Protocol::Tcp, 100, 2_000, 0),
        ];
        for (protocol, host, port, mark) in cases {
            network.send(&packet(protocol, host, port)).unwrap();
            let mut seen = None;
            device.receive.receive(PortId(0), &mut |frames| seen = Some(frames[0].mark)).unwrap();
            assert_eq!(seen, Some(mark), "{protocol} to 192.0.2.{host}:{port}");
        }
    }

    #[test]
    fn a_later_fragment_has_no_port_to_be_marked_by() {
        let mut bytes = packet(Protocol::Udp, 100, 80);
        // The offset of a later fragment, and the checksum less by as much.
        bytes[7] = 100;
        let checksum = u16::from_be_bytes([bytes[10], bytes[11]]) - 100;
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        let to = Prefix::new([192, 0, 2, 100].into(), 32).unwrap();
        let rule = |protocol, ports| MarkRule { mark: 1, protocol, destination: to, ports };
        let end = bytes.len();
        let mut frame = Frame::new(&mut bytes, 0, end, PortId(0)).unwrap();
        mark(&mut frame, Link::Bare, &[rule(None, 80..=80)]);
        assert_eq!(frame.mark, 0);
        mark(&mut frame, Link::Bare, &[rule(Some(Protocol::Udp), 0..=u16::MAX)]);
        assert_eq!(frame.mark, 1);
    }
}
