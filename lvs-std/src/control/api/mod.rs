//! A director's JSON socket: what IPVS has no word for.
//!
//! The socket stands beside the one that speaks the kernel's netlink family, with `.json` behind its name. One
//! connection is one question: a [`Request`] on a line, then a [`Response`] on a line. [`Request::Events`] keeps the
//! connection open, and each [`ApiEvent`] is a line.
//!
//! ```
//! use lvs_std::control::api::Request;
//! let line = r#"{"drain":{"service":"TCP 192.0.2.100:80","server":"10.0.1.11:80","deadline":30.0}}"#;
//! let request: Request = serde_json::from_str(line)?;
//! assert!(matches!(request, Request::Drain { deadline: Some(30.0), .. }));
//! # Ok::<(), serde_json::Error>(())
//! ```

mod client;
mod server;
mod types;

pub use client::{ask, listen};
pub use server::{ApiHandler, ApiServer};
pub use types::{
    ApiEvent, ConnectionRow, DrainRow, HealthRow, ProbeRow, ProblemRow, Question, Request, Response,
    ServerRow, ServiceRow,
};
