//! A configuration file on disk.

use core::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{ConfigError, Configuration};

/// A configuration file: where it is, what it says, and what that means.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by embedders too, whose text comes from elsewhere")]
pub struct ConfigSource {
    /// The file, which a reload reads again.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
    /// What the text means.
    pub configuration: Configuration,
}

impl ConfigSource {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ReadError`], which names the file and shows the line.
    pub fn read(file: impl Into<PathBuf>) -> Result<Self, ReadError> {
        let file = file.into();
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => return Err(ReadError::File(file, error)),
        };
        match Configuration::parse(&text) {
            Ok(configuration) => Ok(Self { file, text, configuration }),
            Err(error) => Err(ReadError::Text(file, error)),
        }
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "a file cannot be read, or its text is wrong")]
pub enum ReadError {
    /// The file cannot be read.
    File(PathBuf, io::Error),
    /// The text of the file is wrong.
    Text(PathBuf, ConfigError),
}

impl ReadError {
    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        match self {
            Self::File(file, _) | Self::Text(file, _) => file,
        }
    }
}

impl fmt::Display for ReadError {
    /// With the file's name, and the line of the text with a marker below it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file().display();
        match self {
            Self::File(_, error) => write!(f, "{name} cannot be read: {error}"),
            Self::Text(_, error) => error.show(&name.to_string()).fmt(f),
        }
    }
}

impl core::error::Error for ReadError {}
