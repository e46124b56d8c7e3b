//! What time brings: entries that expire, schedulers' timers, and what is done about overload.

pub(crate) mod lifecycle;
pub(crate) mod overload;
pub(crate) mod reclaim;
pub(crate) mod sweep;
pub(crate) mod timers;
