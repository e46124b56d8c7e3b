//! Control of a running director through a socket: what is asked, and what is answered.
//!
//! One connection is one question: a line of JSON each way. Whoever may write to the socket's file may control the director.

mod client;
mod server;
mod sync;

use std::path::PathBuf;

pub(crate) use client::{Ipvsadm, Sysctl, ipvsadm, sysctl};
pub(crate) use server::serve;

/// What a director is asked to do.
#[derive(Debug, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Request {
    /// A call of ipvsadm, by its words.
    Ipvsadm(Vec<String>),
    /// A switch by its name, and its value.
    Sysctl(String, String),
}

/// What it answers.
#[derive(Debug, Default, serde::Deserialize, serde::Serialize)]
struct Response {
    /// Exit status.
    status: u8,
    /// For standard output.
    #[serde(default)]
    out: String,
    /// For standard error.
    #[serde(default)]
    error: String,
}

/// Where the director's socket is.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The socket of the running director
    #[arg(long, value_name = "SOCKET", default_value = DEFAULT_SOCKET)]
    control: PathBuf,
}

/// Where a director listens unless it is told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/director.sock";
/// The longest question or answer, in bytes.
const LONGEST: u64 = 64 << 20;
