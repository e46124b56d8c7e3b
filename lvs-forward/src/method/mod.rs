//! The forwarding methods, as edits of one packet.
//!
//! Each takes a frame and the layout of its packet, whose TTL is decremented already ([`edit`](crate::decrement_ttl)),
//! and keeps the [`Offload`](crate::Offload) true. A transform that fails may leave the frame half rewritten: it must
//! be dropped.
//!
//! | method | request | reply |
//! |---|---|---|
//! | [`nat`](nat::rewrite) | destination address and port | source address and port |
//! | [`encap`](encap::wrap) | new header before the packet | none |
//! | direct routing | none: only the link header differs | none |

#[cfg(feature = "tunnel")]
pub mod encap;
pub mod nat;
