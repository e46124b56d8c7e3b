//! Messages of nftables (`linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`), as far as a guard needs them.

/// Messages that the kernel carries out together or not at all.
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: usize,
}

/// The kind of a message, `NFT_MSG_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NewTable = 0,
    NewChain = 3,
    NewRule = 6,
    NewSet = 9,
    NewElements = 12,
    DeleteElements = 14,
}

impl Batch {
    pub(super) fn new() -> Self {
        let mut batch = Self { bytes: Vec::new(), last: 0 };
        batch.frame(BATCH_BEGIN, 0, NFTABLES);
        batch
    }

    /// Adds a message about the table, whose attributes `fill` writes.
    pub(super) fn push(&mut self, kind: Kind, fill: impl FnOnce(&mut Attributes<'_>)) {
        let create = match kind {
            Kind::DeleteElements => 0,
            // Behind those that are there.
            Kind::NewRule => CREATE | APPEND,
            Kind::NewTable | Kind::NewChain | Kind::NewSet | Kind::NewElements => CREATE,
        };
        self.last = self.frame(NFTABLES << 8 | kind as u16, create, 0);
        fill(&mut Attributes(&mut self.bytes));
        self.close(self.last);
    }

    /// The whole. The kernel answers each message that it refuses, and the last one in any case: a batch may well have
    /// more messages than a socket has room for answers.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if let Some(flags) = self.bytes.get_mut(self.last + FLAGS) {
            *flags |= ACK;
        }
        self.frame(BATCH_END, 0, NFTABLES);
        self.bytes
    }

    /// `struct nlmsghdr` and `struct nfgenmsg`. Returns where the message begins.
    fn frame(&mut self, kind: u16, flags: u16, resource: u16) -> usize {
        let at = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | REQUEST).to_ne_bytes());
        // Neither a sequence number nor a port id.
        self.bytes.extend([0; 8]);
        self.bytes.extend([NETDEV, 0]);
        self.bytes.extend(resource.to_be_bytes());
        self.close(at);
        at
    }

    /// Writes a message's length into its head.
    fn close(&mut self, at: usize) {
        let length = (self.bytes.len() - at) as u32;
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }
}

/// Attributes of a message or of another attribute, in the order in which they are written.
pub(super) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// One with plain bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (HEAD + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// A number, in network order as everywhere in nftables.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// One that contains others.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        let at = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend((kind | NESTED).to_ne_bytes());
        fill(&mut Attributes(self.0));
        // No list of a guard comes near the most that the 16 bits of a length can say, see `MOST_ELEMENTS`.
        let length = (self.0.len() - at) as u16;
        if let Some(place) = self.0.get_mut(at..at + 2) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self
    }
}

/// The expressions of a rule. What does not match ends the rule, and the frame goes on.
pub(super) struct Rule<'a, 'b>(pub(super) &'a mut Attributes<'b>);

/// What an offset counts from: `NFT_PAYLOAD_*_HEADER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Link = 0,
    Network = 1,
    Transport = 2,
}

/// How a register compares: `NFT_CMP_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Is = 0,
    IsNot = 1,
    Below = 2,
    AtMost = 3,
    AtLeast = 5,
}

impl Rule<'_, '_> {
    /// The protocol of the network layer, in network order: 2 bytes.
    pub(super) fn ether_type(&mut self, value: u16) -> &mut Self {
        self.expression("meta", |data| {
            data.number(1, REGISTER).number(2, 1);
        });
        self.compare(Comparison::Is, &value.to_be_bytes())
    }

    /// Loads the protocol of the transport layer into a register, counted from the first in words.
    pub(super) fn load_protocol(&mut self, word: u32) -> &mut Self {
        self.expression("meta", |data| {
            data.number(1, REGISTER + word).number(2, 16);
        })
    }

    /// Loads bytes of the packet into registers from this one on.
    pub(super) fn load(&mut self, word: u32, from: From, offset: u32, length: u32) -> &mut Self {
        self.expression("payload", |data| {
            data.number(1, REGISTER + word).number(2, from as u32).number(3, offset).number(4, length);
        })
    }

    /// Keeps some bits of the first registers.
    pub(super) fn mask(&mut self, mask: &[u8]) -> &mut Self {
        self.expression("bitwise", |data| {
            data.number(1, REGISTER).number(2, REGISTER).number(3, mask.len() as u32);
            data.nest(4, |value| _ = value.bytes(1, mask));
            data.nest(5, |value| _ = value.bytes(1, &vec![0; mask.len()]));
        })
    }

    /// Compares the first registers.
    pub(super) fn compare(&mut self, how: Comparison, value: &[u8]) -> &mut Self {
        self.expression("cmp", |data| {
            data.number(1, REGISTER).number(2, how as u32).nest(3, |data| _ = data.bytes(1, value));
        })
    }

    /// Looks the first registers up in a set.
    pub(super) fn is_in(&mut self, set: &str, wanted: bool) -> &mut Self {
        self.expression("lookup", |data| {
            data.text(1, set).number(2, REGISTER).number(5, u32::from(!wanted));
        })
    }

    /// The end of a rule: the frame is dropped.
    pub(super) fn drop_it(&mut self) {
        self.end(0);
    }

    /// The end of a rule: the frame goes on, and no other rule of the chain looks at it.
    pub(super) fn leave_it(&mut self) {
        self.end(1);
    }

    fn end(&mut self, verdict: u32) {
        self.expression("immediate", |data| {
            data.number(1, 0).nest(2, |data| _ = data.nest(2, |place| _ = place.number(1, verdict)));
        });
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.0.nest(LIST_ELEMENT, |element| _ = element.text(1, name).nest(2, fill));
        self
    }
}

/// `NFTA_LIST_ELEM`.
pub(super) const LIST_ELEMENT: u16 = 1;
/// `NFT_REG32_00`, the first of the registers of 4 bytes.
const REGISTER: u32 = 8;
/// Length of an attribute's head.
const HEAD: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;
/// `NFPROTO_NETDEV`.
const NETDEV: u8 = 5;
/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u16 = 10;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Where a `struct nlmsghdr` has the lower half of its flags.
const FLAGS: usize = if cfg!(target_endian = "little") { 6 } else { 7 };
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE`, `NLM_F_APPEND`.
const REQUEST: u16 = 1;
const ACK: u8 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
