//! The recorded transcripts, and which of them are meant to come out differently.

use core::error::Error;
use std::fs;
use std::path::Path;

/// A script, and what the real ipvsadm on the real kernel made of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript {
    pub(crate) name: String,
    pub(crate) script: String,
    pub(crate) expected: Ending,
}

/// What a script leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) out: String,
    pub(crate) errors: String,
    pub(crate) status: i32,
}

/// A transcript that is to come out differently.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Difference {
    pub(crate) transcript: String,
    /// With which tool; both if none is named.
    with: Option<String>,
    pub(crate) reason: String,
}

impl Difference {
    pub(crate) fn is_of(&self, transcript: &str, tool: &str) -> bool {
        self.transcript == transcript && self.with.as_deref().is_none_or(|with| with == tool)
    }
}

impl Transcript {
    /// All of them. A line begins with what it is: `== ` a new transcript, `$ ` script, `> ` output, `! ` errors.
    pub(crate) fn load(file: &Path) -> Result<Vec<Self>, Box<dyn Error>> {
        let mut all: Vec<Self> = Vec::new();
        for (number, line) in fs::read_to_string(file)?.lines().enumerate() {
            let wrong = || format!("{}:{}: `{line}` is no line of a transcript", file.display(), number + 1);
            if let Some(title) = line.strip_prefix("== ") {
                let (name, status) = title.split_once(' ').ok_or_else(wrong)?;
                let expected = Ending { status: status.parse()?, ..Ending::default() };
                all.push(Self { name: name.to_owned(), expected, ..Self::default() });
                continue;
            }
            let last = all.last_mut().ok_or_else(wrong)?;
            let (kind, rest) = line.split_at_checked(2).ok_or_else(wrong)?;
            let text = match kind {
                "$ " => &mut last.script,
                "> " => &mut last.expected.out,
                "! " => &mut last.expected.errors,
                _ => return Err(wrong().into()),
            };
            text.push_str(rest);
            text.push('\n');
        }
        Ok(all)
    }

    /// The addresses and marks of its `traffic mark` lines.
    pub(crate) fn marks(&self) -> Vec<(String, u32)> {
        let words = self.script.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words
            .filter_map(|words| match words.as_slice() {
                ["traffic", "mark", address, mark] => Some(((*address).to_owned(), mark.parse().ok()?)),
                _ => None,
            })
            .collect()
    }
}

/// The transcripts that are meant to differ.
pub(crate) fn differences(file: &Path) -> Result<Vec<Difference>, Box<dyn Error>> {
    #[derive(serde::Deserialize)]
    struct List {
        #[serde(default)]
        difference: Vec<Difference>,
    }
    Ok(toml::from_str::<List>(&fs::read_to_string(file)?)?.difference)
}
