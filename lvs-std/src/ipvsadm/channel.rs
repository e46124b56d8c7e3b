//! What a tool needs of a director.

use core::fmt;

use crate::control::{Answer, Client, ClientError, Command, Errno};

/// A way to a director.
pub trait Channel {
    /// Has a command carried out.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Refused`] when the director will not, and [`ChannelError::Lost`] when it cannot be asked.
    fn call(&mut self, command: &Command) -> Result<Answer, ChannelError>;

    /// Has commands carried out, each for itself, in this order; says of each what became of it.
    fn call_all(&mut self, commands: &[Command]) -> Vec<Result<Answer, ChannelError>> {
        commands.iter().map(|command| self.call(command)).collect()
    }

    /// The text of a file that the kernel's IPVS would show, such as `/proc/net/ip_vs_conn`.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, ChannelError>;

    /// The text of a file in pieces as they come, which end anywhere in a line.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call).
    fn read_pieces(&mut self, path: &str, take: &mut dyn FnMut(&[u8])) -> Result<(), ChannelError> {
        take(&self.read_file(path)?);
        Ok(())
    }
}

impl Channel for Client {
    fn call(&mut self, command: &Command) -> Result<Answer, ChannelError> {
        Ok(Self::call(self, command)?)
    }

    fn call_all(&mut self, commands: &[Command]) -> Vec<Result<Answer, ChannelError>> {
        match Self::call_all(self, commands) {
            Ok(answers) => answers.into_iter().map(|answer| answer.map_err(ChannelError::Refused)).collect(),
            // What was done of it is not known.
            Err(error) => vec![Err(error.into()); commands.len()],
        }
    }

    fn read_file(&mut self, path: &str) -> Result<Vec<u8>, ChannelError> {
        Ok(Self::read_file(self, path)?)
    }

    fn read_pieces(&mut self, path: &str, take: &mut dyn FnMut(&[u8])) -> Result<(), ChannelError> {
        Ok(Self::read_pieces(self, path, take)?)
    }
}

impl From<ClientError> for ChannelError {
    fn from(error: ClientError) -> Self {
        if let ClientError::Refused(errno) = error {
            Self::Refused(errno)
        } else {
            Self::Lost(error.to_string())
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the director refuses, or there is none")]
pub enum ChannelError {
    /// The director refuses.
    Refused(Errno),
    /// The way is gone, or what came by it makes no sense; in words.
    Lost(String),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errno) => errno.fmt(f),
            Self::Lost(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for ChannelError {}
