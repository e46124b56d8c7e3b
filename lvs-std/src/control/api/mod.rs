//! A director's JSON socket: what IPVS has no word for.
//!
//! The socket stands beside the one that speaks the kernel's netlink family, with `.json` behind its name. One
//! connection is one question: a [`Request`] on a line, then a [`Response`] on a line. [`Request::Events`] keeps the
//! connection open, and each [`ApiEvent`] is a line. A listing of connections is sent a page at a time, and may be
//! asked for in parts: `next` of one answer is `after` of the next question.
//!
//! ```
//! use lvs_std::control::api::Request;
//! let line = r#"{"drain":{"service":"TCP 192.0.2.100:80","server":"10.0.1.11:80","deadline":30.0}}"#;
//! let request: Request = serde_json::from_str(line)?;
//! assert!(matches!(request, Request::Drain { deadline: Some(after), .. } if after.get().as_secs() == 30));
//! # Ok::<(), serde_json::Error>(())
//! ```

mod client;
mod conversation;
mod handler;
mod overview;
mod questions;
mod server;
#[cfg(test)]
mod tests;
mod types;

pub use client::{ask, listen};
pub use conversation::converse;
pub use handler::{ApiHandler, Wake};
pub use overview::{
    InterfaceRow, OverviewRow, PastEvent, TrafficRow, WatchedServerRow, WatchedServiceRow, WorkerRow,
};
pub use server::ApiServer;
pub use types::{
    ApiEvent, ConnectionPage, ConnectionRow, DrainRow, Explanation, HealthRow, ProbeRow, ProblemRow,
    Question, Request, Response, ServerRow, ServiceRow, Step, TraceBegun, TraceInterface, TracePage,
    TraceRequest, TraceRow,
};
