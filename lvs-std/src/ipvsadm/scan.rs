//! The first look at the words: each option with its value.

use core::net::{IpAddr, Ipv4Addr};
use core::ops::RangeInclusive;

use lvs_core::{Family, Protocol, ServiceKey};

use super::options::{Meaning, Opt, SPELLINGS, Spelling, Takes, Verb};
use super::value::{cut, endpoint, ipv4, number};
use super::{Mask, Names, Role, UsageError, Value};

/// Everything that a line says, each value checked by itself.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) verb: Verb,
    seen: u64,
    /// Words that are no options.
    pub(super) words: Vec<String>,
    pub(super) role: Option<Role>,
    pub(super) service: Option<ServiceKey>,
    pub(super) scheduler: Option<String>,
    pub(super) flags: Option<String>,
    pub(super) persistent: u32,
    pub(super) mask: Option<Mask>,
    pub(super) engine: Option<String>,
    pub(super) server: Option<(IpAddr, u16)>,
    pub(super) way: Way,
    pub(super) weight: u32,
    pub(super) upper: u32,
    pub(super) lower: u32,
    pub(super) tunnel: Tunnel,
    pub(super) tunnel_port: u16,
    pub(super) interface: Option<String>,
    pub(super) sync_id: u8,
    pub(super) group: Option<IpAddr>,
    pub(super) mcast_port: Option<u16>,
    pub(super) ttl: Option<u8>,
    pub(super) max_len: Option<u16>,
}

/// `-g`, `-i`, `-m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    Tunnel,
    Nat,
}

/// `--tun-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tunnel {
    IpIp,
    Gue,
    Gre,
}

/// Reads all words.
pub(super) fn read(words: &[&str], names: &dyn Names) -> Result<Given, UsageError> {
    let mut cursor = Cursor { words, at: 0, bundle: "", only_words: false };
    let Ok(Some(Token::Option { meaning: Meaning::Verb(verb), value, .. })) = cursor.next() else {
        return Err(UsageError::Hint);
    };
    let mut given = Given::new(verb);
    let role = match value {
        Some("master") => Some(Role::Master),
        Some("backup") => Some(Role::Backup),
        Some(_) | None => None,
    };
    match verb {
        Verb::StartDaemon => given.role = Some(role.ok_or(UsageError::Illegal(Value::StartDaemon))?),
        Verb::StopDaemon => given.role = Some(role.ok_or(UsageError::Illegal(Value::StopDaemon))?),
        // They look at nothing else.
        Verb::Help | Verb::Version => return Ok(given),
        Verb::AddService
        | Verb::EditService
        | Verb::DeleteService
        | Verb::Clear
        | Verb::List
        | Verb::AddServer
        | Verb::DeleteServer
        | Verb::EditServer
        | Verb::Set
        | Verb::Restore
        | Verb::Save
        | Verb::Zero => {}
    }
    while let Some(token) = cursor.next()? {
        match token {
            Token::Word(word) => given.words.push(word.to_owned()),
            Token::Option { meaning, typed, value } => {
                given.option(meaning, typed, value.unwrap_or_default(), names)?;
            }
        }
    }
    Ok(given)
}

impl Given {
    const fn new(verb: Verb) -> Self {
        Self {
            verb,
            seen: 0,
            words: Vec::new(),
            role: None,
            service: None,
            scheduler: None,
            flags: None,
            persistent: DEFAULT_PERSISTENCE,
            mask: None,
            engine: None,
            server: None,
            way: Way::Direct,
            weight: 1,
            upper: 0,
            lower: 0,
            tunnel: Tunnel::IpIp,
            tunnel_port: 0,
            interface: None,
            sync_id: 0,
            group: None,
            mcast_port: None,
            ttl: None,
            max_len: None,
        }
    }

    /// Whether an option is there.
    pub(super) const fn has(&self, option: Opt) -> bool {
        self.seen & 1 << option as u32 != 0
    }

    fn mark_seen(&mut self, option: Opt) -> Result<(), UsageError> {
        if self.has(option) {
            return Err(UsageError::twice(option));
        }
        self.seen |= 1 << option as u32;
        Ok(())
    }

    fn option(
        &mut self,
        meaning: Meaning,
        typed: &str,
        value: &str,
        names: &dyn Names,
    ) -> Result<(), UsageError> {
        match meaning {
            Meaning::Verb(_) => Err(UsageError::SecondCommand(typed.to_owned())),
            Meaning::Nothing => Ok(()),
            Meaning::Tcp => self.service(Protocol::Tcp, value, names),
            Meaning::Udp => self.service(Protocol::Udp, value, names),
            Meaning::Sctp => self.service(Protocol::Sctp, value, names),
            Meaning::Mark => {
                self.mark_seen(Opt::Service)?;
                let mark = number(value, 1..=u32::MAX);
                let mark = mark.ok_or_else(|| UsageError::Illegal(Value::Mark(value.to_owned())))?;
                self.service = Some(ServiceKey::Mark { family: Family::V4, mark });
                Ok(())
            }
            Meaning::Six => match &mut self.service {
                Some(ServiceKey::Mark { family, .. }) => {
                    *family = Family::V6;
                    self.mask = None;
                    Ok(())
                }
                Some(ServiceKey::Address { .. }) | None => Err(UsageError::SixBeforeMark),
            },
            Meaning::Direct => self.way(Way::Direct),
            Meaning::Tunnel => self.way(Way::Tunnel),
            Meaning::Nat => self.way(Way::Nat),
            Meaning::Opt(option) => {
                self.mark_seen(option)?;
                self.value(option, value, names).map_err(UsageError::Illegal)
            }
        }
    }

    fn service(&mut self, protocol: Protocol, text: &str, names: &dyn Names) -> Result<(), UsageError> {
        self.mark_seen(Opt::Service)?;
        let (address, port) =
            endpoint(text, Some(protocol), names).ok_or(UsageError::Illegal(Value::ServiceAddress))?;
        if address.is_ipv6() {
            // A mask that stood before it was read as one of IPv4, and is forgotten.
            self.mask = None;
        }
        self.service = Some(ServiceKey::Address { protocol, address, port: port.unwrap_or(0) });
        Ok(())
    }

    fn way(&mut self, way: Way) -> Result<(), UsageError> {
        self.mark_seen(Opt::Method)?;
        self.way = way;
        Ok(())
    }

    fn value(&mut self, option: Opt, text: &str, names: &dyn Names) -> Result<(), Value> {
        match option {
            Opt::Scheduler => self.scheduler = Some(cut(text)),
            Opt::Engine => self.engine = Some(cut(text)),
            Opt::SchedFlags => self.flags = Some(text.to_owned()),
            Opt::McastInterface => self.interface = Some(cut(text)),
            Opt::Persistent if text.is_empty() => {}
            Opt::Persistent => {
                self.persistent =
                    number(text, 1..=MAX_TIMEOUT).ok_or_else(|| Value::Timeout(text.to_owned()))?;
            }
            Opt::Netmask => self.mask = Some(self.read_mask(text, names)?),
            Opt::Server => self.server = Some(self.read_server(text, names)?),
            Opt::Weight => self.weight = number(text, 0..=MAX_COUNT).ok_or(Value::Weight)?,
            Opt::Upper => self.upper = number(text, 0..=MAX_COUNT).ok_or(Value::Upper)?,
            Opt::Lower => self.lower = number(text, 0..=MAX_COUNT).ok_or(Value::Lower)?,
            Opt::TunType => {
                self.tunnel = match text {
                    "ipip" => Tunnel::IpIp,
                    "gue" => Tunnel::Gue,
                    "gre" => Tunnel::Gre,
                    _ => return Err(Value::TunnelType),
                };
            }
            Opt::TunPort => self.tunnel_port = small(text, 1..=65_535).ok_or(Value::TunnelPort)?,
            Opt::SyncId => self.sync_id = small(text, 0..=255).ok_or(Value::SyncId)?,
            Opt::McastGroup => self.group = Some(read_group(text)?),
            Opt::McastPort => {
                self.mcast_port = Some(small(text, 1..=65_535).ok_or(Value::McastPort)?);
            }
            Opt::McastTtl => self.ttl = Some(small(text, 1..=255).ok_or(Value::McastTtl)?),
            Opt::SyncMaxLen => {
                self.max_len = Some(small(text, 1..=65_507).ok_or(Value::SyncMaxLen)?);
            }
            Opt::Numeric
            | Opt::Connection
            | Opt::Service
            | Opt::Method
            | Opt::Timeout
            | Opt::Daemon
            | Opt::Stats
            | Opt::Rate
            | Opt::Thresholds
            | Opt::PersistentConn
            | Opt::NoSort
            | Opt::Exact
            | Opt::OnePacket
            | Opt::TunInfo
            | Opt::TunNoCsum
            | Opt::TunCsum
            | Opt::TunRemCsum => {}
        }
        Ok(())
    }

    fn read_mask(&self, text: &str, names: &dyn Names) -> Result<Mask, Value> {
        if self.service.is_some_and(|key| key.family() == Family::V6) {
            return small(text, 1..=128).map(Mask::V6).ok_or(Value::MaskV6);
        }
        ipv4(text).or_else(|| names.host(text)).map(Mask::V4).ok_or(Value::Mask)
    }

    /// A server without a port gets that of the service, if that stands before it.
    fn read_server(&self, text: &str, names: &dyn Names) -> Result<(IpAddr, u16), Value> {
        let (protocol, port) = match self.service {
            Some(ServiceKey::Address { protocol, port, .. }) => (Some(protocol), port),
            Some(ServiceKey::Mark { .. }) => (Some(Protocol::Tcp), 0),
            None => (None, 0),
        };
        let (address, own) = endpoint(text, protocol, names).ok_or(Value::ServerAddress)?;
        Ok((address, own.unwrap_or(port)))
    }
}

/// A number of a smaller kind.
fn small<T: TryFrom<u32>>(text: &str, range: RangeInclusive<u32>) -> Option<T> {
    T::try_from(number(text, range)?).ok()
}

fn read_group(text: &str) -> Result<IpAddr, Value> {
    if text.contains(':') {
        let group = text.parse().ok().filter(core::net::Ipv6Addr::is_multicast);
        return group.map(IpAddr::V6).ok_or_else(|| Value::GroupV6(text.to_owned()));
    }
    let group = ipv4(text).filter(Ipv4Addr::is_multicast);
    group.map(IpAddr::V4).ok_or_else(|| Value::Group(text.to_owned()))
}

/// One part of the line.
enum Token<'a> {
    Option { meaning: Meaning, typed: &'a str, value: Option<&'a str> },
    Word(&'a str),
}

/// Where the reading stands. Short options stand together as one likes, and a value may follow its option at once.
struct Cursor<'a> {
    words: &'a [&'a str],
    at: usize,
    /// What is left of a word of short options.
    bundle: &'a str,
    /// Whether `--` has ended the options.
    only_words: bool,
}

impl<'a> Cursor<'a> {
    fn next(&mut self) -> Result<Option<Token<'a>>, UsageError> {
        if !self.bundle.is_empty() {
            return self.short().map(Some);
        }
        let Some(word) = self.word() else { return Ok(None) };
        if self.only_words {
            return Ok(Some(Token::Word(word)));
        }
        if word == "--" {
            self.only_words = true;
            return self.next();
        }
        if let Some(long) = word.strip_prefix("--") {
            return self.long(word, long).map(Some);
        }
        match word.strip_prefix('-') {
            Some(rest) if !rest.is_empty() => {
                self.bundle = rest;
                self.short().map(Some)
            }
            Some(_) | None => Ok(Some(Token::Word(word))),
        }
    }

    fn word(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    fn long(&mut self, typed: &'a str, long: &'a str) -> Result<Token<'a>, UsageError> {
        let (name, own) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let spelling = SPELLINGS.iter().find(|spelling| spelling.long == name);
        let spelling = spelling.ok_or_else(|| UsageError::Unknown(typed.to_owned()))?;
        self.option(spelling, typed, own)
    }

    fn short(&mut self) -> Result<Token<'a>, UsageError> {
        let typed = self.words.get(self.at.wrapping_sub(1)).copied().unwrap_or_default();
        let mut rest = self.bundle.chars();
        let letter = rest.next();
        self.bundle = rest.as_str();
        let spelling = SPELLINGS.iter().find(|spelling| spelling.short.is_some() && spelling.short == letter);
        let spelling = spelling.ok_or_else(|| UsageError::Unknown(typed.to_owned()))?;
        let own = match spelling.takes {
            Takes::Nothing => None,
            Takes::Value | Takes::Maybe => {
                Some(core::mem::take(&mut self.bundle)).filter(|own| !own.is_empty())
            }
        };
        self.option(spelling, typed, own)
    }

    fn option(
        &mut self,
        spelling: &Spelling,
        typed: &'a str,
        own: Option<&'a str>,
    ) -> Result<Token<'a>, UsageError> {
        let value = match spelling.takes {
            Takes::Nothing => None,
            Takes::Value => {
                let value = own.or_else(|| self.word());
                Some(value.ok_or_else(|| UsageError::MissingValue(typed.to_owned()))?)
            }
            Takes::Maybe => {
                let next = self.words.get(self.at).filter(|word| !word.starts_with('-'));
                match (own, next) {
                    (Some(own), _) => Some(own),
                    (None, Some(_)) => self.word(),
                    (None, None) => None,
                }
            }
        };
        Ok(Token::Option { meaning: spelling.meaning, typed, value })
    }
}

const DEFAULT_PERSISTENCE: u32 = 360;
/// 31 days in seconds.
pub(super) const MAX_TIMEOUT: u32 = 2_678_400;
const MAX_COUNT: u32 = i32::MAX as u32;
