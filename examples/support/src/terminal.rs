//! How things look: colours and bars where the terminal has them, plain text where not.

use core::fmt;
use std::io::{self, IsTerminal, Write};

/// What standard output can show.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// Whether a person watches: lines may be overwritten and coloured.
    live: bool,
    colour: bool,
    unicode: bool,
}

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// A title.
    Title,
}

impl Terminal {
    /// Plain ASCII text, as for a file.
    pub const PLAIN: Self = Self { live: false, colour: false, unicode: false };

    /// What this process's standard output can show: colours only on a terminal and without `NO_COLOR`, bars of block
    /// characters only in a UTF-8 locale.
    #[must_use]
    pub fn detect() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let live = io::stdout().is_terminal() && set("TERM").is_none_or(|term| term != "dumb");
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let unicode = live && locale.to_ascii_lowercase().replace('-', "").contains("utf8");
        Self { live, colour: live && set("NO_COLOR").is_none(), unicode }
    }

    /// A line that the next one overwrites; nothing where that cannot be.
    pub fn progress(self, text: &str) {
        if self.live {
            let mut out = io::stdout().lock();
            // A terminal that is gone needs no progress.
            drop(write!(out, "\r\x1b[K{text}").and_then(|()| out.flush()));
        }
    }

    /// Text in a tone.
    #[must_use]
    pub fn paint(self, tone: Tone, text: impl fmt::Display) -> String {
        if !self.colour {
            return text.to_string();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Title => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A bar of `width` places that is full at `full`, with a mark where `wanted` would end.
    #[must_use]
    pub fn bar(self, got: u64, wanted: u64, full: u64, width: usize) -> String {
        let (block, rest, mark) = if self.unicode { ('█', ' ', '│') } else { ('#', ' ', '|') };
        let places = |value: u64| (value.min(full) as usize * width).checked_div(full as usize).unwrap_or(0);
        let (got, wanted) = (places(got), places(wanted));
        (0..=width)
            .map(|place| match place {
                _ if place == wanted => mark,
                _ if place - usize::from(place > wanted) < got => block,
                _ => rest,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Terminal = Terminal::PLAIN;

    #[test]
    fn a_bar_is_as_long_as_its_share_and_marks_the_wanted_one() {
        assert_eq!(PLAIN.bar(50, 50, 100, 10), "#####|     ");
        assert_eq!(PLAIN.bar(70, 50, 100, 10), "#####|##   ");
        assert_eq!(PLAIN.bar(0, 100, 100, 10), "          |");
        assert_eq!(PLAIN.bar(0, 0, 0, 4), "|    ");
    }

    #[test]
    fn plain_output_has_no_control_characters() {
        assert_eq!(PLAIN.paint(Tone::Bad, "wrong"), "wrong");
        assert!(PLAIN.bar(1, 2, 3, 9).is_ascii());
    }
}
