//! A configuration file on disk.

use core::fmt;
use core::str::FromStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{ConfigError, Configuration};

/// A configuration and where it comes from: a file, a text, or a program.
///
/// ```
/// use lvs_std::config::ConfigSource;
/// let source: ConfigSource = "[[interface]]\nname = \"eth0\"\n".parse()?;
/// assert_eq!(source.configuration.interfaces.len(), 1);
/// # Ok::<(), lvs_std::config::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConfigSource {
    /// The file, which a reload reads again.
    pub file: Option<PathBuf>,
    /// The text, which is kept beside the state file: a later start compares it with what it is told then.
    pub text: Option<String>,
    /// What it means.
    pub configuration: Configuration,
}

impl From<Configuration> for ConfigSource {
    fn from(configuration: Configuration) -> Self {
        Self { file: None, text: None, configuration }
    }
}

impl FromStr for ConfigSource {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Ok(Self { file: None, text: Some(text.to_owned()), configuration: Configuration::parse(text)? })
    }
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
            Ok(configuration) => Ok(Self { file: Some(file), text: Some(text), configuration }),
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
