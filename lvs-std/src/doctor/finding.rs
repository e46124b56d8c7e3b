//! What a check found.

use serde::Serialize;

/// How bad it is. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::exhaustive_enums, reason = "whoever shows findings must know each rank")]
pub enum Rank {
    /// The director, or one of its servers, does not serve.
    Error,
    /// The director serves, and may not do so always.
    Hint,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The check that found it, by a name that stays.
    pub check: &'static str,
    /// How bad it is.
    pub rank: Rank,
    /// Where the commands are to be typed: `here`, or the address of a real server.
    pub on: String,
    /// What is wrong, in words.
    pub what: String,
    /// How to mend it, in words.
    pub mend: String,
    /// The commands that mend it, one after the other. None where only a person can tell what is right.
    pub commands: Vec<String>,
}

impl Finding {
    pub(super) fn error(check: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        let (what, mend) = (what.into(), mend.into());
        Self { check, rank: Rank::Error, on: "here".to_owned(), what, mend, commands: Vec::new() }
    }

    pub(super) fn hint(check: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { rank: Rank::Hint, ..Self::error(check, what, mend) }
    }

    pub(super) fn with_command(mut self, command: impl Into<String>) -> Self {
        self.commands.push(command.into());
        self
    }

    pub(super) fn on_server(mut self, server: core::net::IpAddr) -> Self {
        self.on = server.to_string();
        self
    }
}
