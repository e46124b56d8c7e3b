//! Messages to the host itself.

use lvs_core::{Family, Tick};

use super::handled::Handled;
use super::mac::MacAddress;
use super::port::Port;
use super::state::Host;
use super::{arp, ndp};
use crate::frame::Frame;
use crate::header::icmp::v6;
use crate::header::layout::Layout;
use crate::header::{array, ethernet};
use crate::parse::{Link, Meaning, Parsed, parse};

/// Who a frame is for, as its link header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkDestination {
    Us,
    Group,
    Another,
    /// Of another network on the same link, as its VLAN tag says.
    OtherNetwork,
}

impl Host {
    /// Learns what a frame says of a neighbour, by ARP or neighbour discovery, and answers nothing: another forwarder
    /// with the same addresses does. For several that share the work of one director. Frames about anything else are
    /// not looked at further.
    pub fn overhear(&mut self, now: Tick, frame: &mut Frame<'_>) {
        let Some(port) = self.port(frame.port) else { return };
        match self.link_destination(port, frame) {
            LinkDestination::Us | LinkDestination::Group => {}
            LinkDestination::Another | LinkDestination::OtherNetwork => return,
        }
        // What became of it does not matter: nothing is sent.
        match parse(frame, port.link()) {
            Ok(Parsed::Arp(at)) => _ = self.arp(now, frame, at),
            Ok(Parsed::Ip(layout, Meaning::Control(v6::SOLICITATION | v6::ADVERTISEMENT)))
                if layout.family() == Family::V6 =>
            {
                _ = self.neighbour_discovery(now, frame, &layout);
            }
            Ok(Parsed::Ip(..) | Parsed::Foreign) | Err(_) => {}
        }
    }

    /// Handles an ARP packet at `at` of an Ethernet frame.
    pub(crate) fn arp(&mut self, now: Tick, frame: &mut Frame<'_>, at: usize) -> Handled {
        match self.port(frame.port) {
            Some(&Port { link: Link::Ethernet, mac, .. }) => arp::handle(self, now, frame, at, mac),
            Some(_) | None => Handled::NotOurs,
        }
    }

    /// Handles a neighbour solicitation or advertisement.
    pub(crate) fn neighbour_discovery(
        &mut self,
        now: Tick,
        frame: &mut Frame<'_>,
        layout: &Layout,
    ) -> Handled {
        match self.port(frame.port) {
            Some(&Port { link: Link::Ethernet, mac, .. }) => ndp::handle(self, now, frame, layout, mac),
            Some(_) | None => Handled::NotOurs,
        }
    }

    /// Who a frame is for on its link.
    #[inline]
    pub(crate) fn link_destination(&self, port: &Port, frame: &Frame<'_>) -> LinkDestination {
        match port.link() {
            Link::Bare => LinkDestination::Us,
            Link::Ethernet if !port.is_on_network(frame.bytes()) => LinkDestination::OtherNetwork,
            Link::Ethernet => match array::<6>(frame.bytes(), ethernet::DESTINATION) {
                Some(to) if *to == port.mac().0 => LinkDestination::Us,
                Some(to) if MacAddress(*to).is_group() => LinkDestination::Group,
                Some(_) | None => LinkDestination::Another,
            },
        }
    }
}
