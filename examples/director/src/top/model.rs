//! What is shown, and what keys do to it.

use core::cmp::Ordering;
use core::net::SocketAddr;

use lvs_std::control::api::{OverviewRow, WatchedServerRow};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::meter::Meter;

/// What is shown.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) overview: OverviewRow,
    /// Of the whole director.
    pub(super) rates: Rates,
    /// Busy shares of the workers, once they are known.
    pub(super) busy: Vec<Option<f64>>,
    /// Packets dropped in a second, by reason.
    pub(super) drops: Vec<(String, u64, f64)>,
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// Whether keys are letters of the filter.
    pub(super) typing: bool,
    /// The real server that is marked.
    pub(super) marked: Option<Name>,
    /// What was said last, or why nothing new is shown.
    pub(super) message: Option<String>,
    pub(super) trouble: Option<String>,
    services: Vec<Service>,
    meter: Meter,
}

/// A real server of a service.
pub(super) type Name = (String, SocketAddr);

/// How fast counters grow, in a second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rates {
    pub(super) connections: f64,
    pub(super) packets: f64,
    pub(super) bits: f64,
}

/// A service as it is shown.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) scheduler: String,
    pub(super) servers: Vec<WatchedServerRow>,
}

/// The order of a service's real servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Declared,
    Address,
    Active,
    Connections,
    Packets,
    Bits,
}

/// What a key asks for.
#[derive(Debug)]
pub(super) enum Wish {
    Nothing,
    Quit,
    Act(Action),
}

/// What is done to a real server.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Drain(Name),
    Undrain(Name),
}

impl Sort {
    pub(super) const ALL: [Self; 6] =
        [Self::Declared, Self::Address, Self::Active, Self::Connections, Self::Packets, Self::Bits];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Address => "address",
            Self::Active => "active",
            Self::Connections => "new/s",
            Self::Packets => "packets/s",
            Self::Bits => "bit/s",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).map_or(0, |at| at + 1);
        Self::ALL.get(at).copied().unwrap_or(Self::Declared)
    }

    fn compare(self, one: &WatchedServerRow, other: &WatchedServerRow) -> Ordering {
        let most = |read: fn(&WatchedServerRow) -> u64| read(other).cmp(&read(one));
        match self {
            Self::Declared => Ordering::Equal,
            Self::Address => one.address.cmp(&other.address),
            Self::Active => most(|of| of.active.into()),
            Self::Connections => most(|of| of.rates.connections),
            Self::Packets => most(|of| of.rates.in_packets + of.rates.out_packets),
            Self::Bits => most(|of| of.rates.in_bytes + of.rates.out_bytes),
        }
    }
}

impl Model {
    pub(super) fn new(first: OverviewRow) -> Self {
        let mut model = Self {
            overview: OverviewRow::default(),
            rates: Rates::default(),
            busy: Vec::new(),
            drops: Vec::new(),
            sort: Sort::Declared,
            filter: String::new(),
            typing: false,
            marked: None,
            message: None,
            trouble: None,
            services: Vec::new(),
            meter: Meter::default(),
        };
        model.show(first);
        model
    }

    /// Shows what the director says now.
    pub(super) fn show(&mut self, overview: OverviewRow) {
        self.meter.turn();
        let (meter, published) = (&mut self.meter, overview.published);
        let mut rate =
            |name: String, value: u64| meter.rate(name, value as f64, published).unwrap_or_default();
        self.rates = Rates {
            connections: rate("connections".to_owned(), overview.traffic.connections),
            packets: rate("packets".to_owned(), overview.traffic.in_packets + overview.traffic.out_packets),
            bits: 8.0 * rate("bytes".to_owned(), overview.traffic.in_bytes + overview.traffic.out_bytes),
        };
        self.drops = overview
            .dropped
            .iter()
            .map(|(reason, count)| (reason.clone(), *count, rate(format!("drop {reason}"), *count)))
            .collect();
        let workers = overview.workers.iter().enumerate();
        let waits = workers.map(|(number, of)| meter.rate(format!("waited {number}"), of.waited, published));
        self.busy = waits.map(|waited| Some((1.0 - waited?).clamp(0.0, 1.0))).collect();
        self.services = overview
            .services
            .iter()
            .map(|of| Service {
                name: of.service.clone(),
                scheduler: of.scheduler.clone(),
                servers: of.servers.clone(),
            })
            .collect();
        self.overview = overview;
        self.trouble = None;
    }

    /// Nothing new is known, for this reason.
    pub(super) fn trouble(&mut self, why: String) {
        self.trouble = Some(why);
    }

    pub(super) fn say(&mut self, what: String) {
        self.message = Some(what);
    }

    /// The services that the filter lets through, their servers in order.
    pub(super) fn services(&self) -> Vec<(&Service, Vec<&WatchedServerRow>)> {
        let wanted = self.filter.to_lowercase();
        let has = |text: &str| text.to_lowercase().contains(&wanted);
        let shown = self.services.iter().filter_map(|service| {
            let whole = has(&service.name) || has(&service.scheduler);
            let servers = service.servers.iter();
            let mut servers: Vec<_> = servers.filter(|of| whole || has(&of.address.to_string())).collect();
            servers.sort_by(|one, other| self.sort.compare(one, other));
            (whole || !servers.is_empty()).then_some((service, servers))
        });
        shown.collect()
    }

    /// What a key asks for.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys have no meaning")]
    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Wish::Quit } else { Wish::Nothing };
        }
        if self.typing {
            self.type_in(key.code);
            return Wish::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Down | KeyCode::Char('j') => self.mark(1),
            KeyCode::Up | KeyCode::Char('k') => self.mark(-1),
            KeyCode::Char('d') => {
                return self.act(Action::Drain);
            }
            KeyCode::Char('u') => return self.act(Action::Undrain),
            _ => {}
        }
        Wish::Nothing
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most keys have no meaning")]
    fn type_in(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.filter.len() < LONGEST => self.filter.push(letter),
            _ => {}
        }
    }

    fn names(&self) -> Vec<Name> {
        let services = self.services().into_iter();
        services
            .flat_map(|(service, servers)| {
                servers.into_iter().map(|server| (service.name.clone(), server.address)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Marks the next real server, or the one before. The first key marks the first one.
    fn mark(&mut self, step: isize) {
        let names = self.names();
        let at = self.marked.as_ref().and_then(|marked| names.iter().position(|name| name == marked));
        let last = names.len().saturating_sub(1);
        let next = at.map_or(0, |at| at.saturating_add_signed(step).min(last));
        self.marked = names.get(next).cloned();
    }

    /// Something for the marked real server, if it is shown.
    fn act(&mut self, action: impl FnOnce(Name) -> Action) -> Wish {
        match self.marked.clone().filter(|marked| self.names().contains(marked)) {
            Some(name) => Wish::Act(action(name)),
            None => {
                self.say("mark a real server first, by the arrow keys".to_owned());
                Wish::Nothing
            }
        }
    }
}

/// Bytes of a filter.
const LONGEST: usize = 100;

#[cfg(test)]
mod tests {
    use lvs_std::control::api::{TrafficRow, WatchedServiceRow, WorkerRow};

    use super::*;

    fn server(address: &str, active: u32, rate: u64) -> WatchedServerRow {
        WatchedServerRow {
            address: address.parse().unwrap(),
            method: "NAT".to_owned(),
            weight: 1,
            effective_weight: Some(1),
            draining: false,
            active,
            inactive: 0,
            traffic: TrafficRow::default(),
            rates: TrafficRow { connections: rate, ..TrafficRow::default() },
        }
    }

    fn overview(published: f64, rates: [u64; 2]) -> OverviewRow {
        let servers = vec![server("10.0.1.12:80", 3, rates[0]), server("10.0.1.11:80", 8, rates[1])];
        let web = WatchedServiceRow {
            service: "TCP 192.0.2.100:80".to_owned(),
            scheduler: "rr".to_owned(),
            servers,
        };
        let dns = vec![server("10.0.1.31:53", 0, 0)];
        let dns = WatchedServiceRow {
            service: "UDP 192.0.2.100:53".to_owned(),
            scheduler: "sh".to_owned(),
            servers: dns,
        };
        OverviewRow { published, services: vec![web, dns], ..OverviewRow::default() }
    }

    fn press(model: &mut Model, keys: &str) -> Wish {
        let press = |letter| model.press(KeyEvent::from(KeyCode::Char(letter)));
        keys.chars().map(press).last().unwrap_or(Wish::Nothing)
    }

    fn shown(model: &Model) -> Vec<String> {
        let servers = model.services().into_iter().flat_map(|(_, servers)| servers);
        servers.map(|server| server.address.to_string()).collect()
    }

    #[test]
    fn servers_are_sorted_within_their_service_by_what_they_do_now() {
        let mut model = Model::new(overview(1.0, [100, 5]));
        assert_eq!(shown(&model), ["10.0.1.12:80", "10.0.1.11:80", "10.0.1.31:53"], "as declared");
        press(&mut model, "s");
        assert_eq!(shown(&model)[..2], ["10.0.1.11:80", "10.0.1.12:80"], "by address");
        press(&mut model, "s");
        assert_eq!(shown(&model)[..2], ["10.0.1.11:80", "10.0.1.12:80"], "by active connections");
        press(&mut model, "s");
        assert_eq!(model.sort, Sort::Connections);
        assert_eq!(shown(&model)[..2], ["10.0.1.12:80", "10.0.1.11:80"], "100 against 5 in a second");
    }

    #[test]
    fn a_filter_finds_services_and_servers_and_escape_shows_all_again() {
        let mut model = Model::new(overview(1.0, [0, 0]));
        press(&mut model, "/.31");
        assert_eq!(shown(&model), ["10.0.1.31:53"]);
        assert!(matches!(press(&mut model, "q"), Wish::Nothing), "a letter while a filter is typed");
        model.press(KeyEvent::from(KeyCode::Backspace));
        model.press(KeyEvent::from(KeyCode::Enter));
        assert_eq!(shown(&model), ["10.0.1.31:53"]);
        model.press(KeyEvent::from(KeyCode::Esc));
        press(&mut model, "/tcp");
        assert_eq!(shown(&model).len(), 2, "all servers of a service whose name fits");
        model.press(KeyEvent::from(KeyCode::Esc));
        assert_eq!(shown(&model).len(), 3);
    }

    #[test]
    fn a_drain_is_for_the_marked_server_and_for_none_that_is_not_shown() {
        let mut model = Model::new(overview(1.0, [0, 0]));
        assert!(matches!(press(&mut model, "d"), Wish::Nothing));
        assert!(model.message.is_some());
        let Wish::Act(Action::Drain((service, server))) = press(&mut model, "jjd") else {
            panic!("no drain")
        };
        assert_eq!((&*service, server.to_string()), ("TCP 192.0.2.100:80", "10.0.1.11:80".to_owned()));
        // The mark stays at its server, whatever the order.
        press(&mut model, "ss");
        assert!(
            matches!(press(&mut model, "u"), Wish::Act(Action::Undrain(name)) if name == (service, server))
        );
        press(&mut model, "/udp");
        model.press(KeyEvent::from(KeyCode::Enter));
        assert!(matches!(press(&mut model, "d"), Wish::Nothing));
    }

    #[test]
    fn a_share_that_takes_two_readings_is_unknown_after_the_first() {
        let waited = |seconds: f64, waited: f64| {
            let workers = vec![WorkerRow { waited, frames: 0 }];
            OverviewRow { workers, ..overview(seconds, [0, 0]) }
        };
        let mut model = Model::new(waited(1.0, 0.9));
        assert_eq!(model.busy, [None]);
        model.show(waited(3.0, 2.4));
        assert_eq!(model.busy, [Some(0.25)]);
    }

    #[test]
    fn q_and_control_c_quit() {
        let mut model = Model::new(overview(1.0, [0, 0]));
        assert!(matches!(press(&mut model, "q"), Wish::Quit));
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        press(&mut model, "/");
        assert!(matches!(model.press(control_c), Wish::Quit), "also while a filter is typed");
    }
}
