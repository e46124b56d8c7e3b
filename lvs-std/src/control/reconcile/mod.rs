//! From what was declared to what directors have: the declared state, the steps that follow from a change of it, and
//! those steps applied to every director, all or none.

pub(super) mod ahead;
pub(super) mod change;
pub(super) mod desired;
pub(super) mod fan_out;
mod planned;
pub(super) mod prebuild;
pub(super) mod table;
