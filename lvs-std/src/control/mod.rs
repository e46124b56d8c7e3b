//! Control of a director as IPVS is controlled: the commands of the kernel's generic netlink family `IPVS`.
//!
//! | part | what it is |
//! |---|---|
//! | [`Command`], [`Answer`], [`Errno`] | what is asked and answered, typed |

mod errno;
mod types;

pub use errno::Errno;
pub use types::{
    Answer, Command, DaemonSpec, Info, Role, ServerReport, ServerSpec, ServiceName, ServiceReport,
    ServiceSpec, Stats, Timeouts, flags, method, tunnel, whole,
};
