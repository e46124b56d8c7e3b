//! Errors of a configuration file: where, what, and what to write instead.

use core::error::Error;
use core::fmt;
use core::ops::Range;

use crate::control::sysctl::Switch;

/// Why a configuration cannot be used, with the place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    message: String,
    hint: Option<String>,
    place: Option<Place>,
}

/// A place in a file, for people: lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
    /// The whole line and how much of it, from `column`, is meant.
    text: String,
    width: usize,
}

impl ConfigError {
    /// An error about the bytes `span` of `source`.
    pub(super) fn new(source: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, place: Some(Place::new(source, span)) }
    }

    /// Adds what was expected, or what to do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the TOML reader found, in our words where serde's are about Rust.
    pub(super) fn from_toml(source: &str, error: &toml::de::Error) -> Self {
        let message = error.message();
        let place = error.span().map(|span| Place::new(source, span));
        for (serde, ours) in [("unknown field `", "unknown key"), ("unknown variant `", "unknown value")] {
            let Some((name, rest)) = message.strip_prefix(serde).and_then(|rest| rest.split_once('`')) else {
                continue;
            };
            let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
            let hint = switch(name).or_else(|| suggestion(name, &known));
            return Self { message: format!("{ours} `{name}`"), hint, place };
        }
        let mut message = message
            .replace("missing field", "missing key")
            .replace("duplicate field", "duplicate key")
            .replace("expected a sequence", "expected a list");
        if let Some(at) = message.find("expected struct ") {
            message.truncate(at);
            message.push_str("expected a table");
        }
        Self { message, hint: None, place }
    }

    /// The error as people read it best: `name:line:column: message`, the line, and a marker below it.
    #[must_use]
    pub const fn show<'a>(&'a self, name: &'a str) -> Shown<'a> {
        Shown { error: self, name }
    }
}

/// Shows an error of a named file, with its line and a marker below it.
#[derive(Debug)]
pub struct Shown<'a> {
    error: &'a ConfigError,
    name: &'a str,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error, name } = self;
        let Some(place) = &error.place else { return write!(f, "{name}: {error}") };
        let number = place.line.to_string();
        let gutter = " ".repeat(number.len());
        writeln!(f, "{name}:{number}:{}: {}", place.column, error.message)?;
        writeln!(f, "{gutter} |")?;
        writeln!(f, "{number} | {}", place.text)?;
        write!(f, "{gutter} | {}{}", " ".repeat(place.column - 1), "^".repeat(place.width))?;
        error.hint.as_ref().map_or(Ok(()), |hint| write!(f, " {hint}"))
    }
}

impl fmt::Display for ConfigError {
    /// On one line, without the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}: ", place.line, place.column)?;
        }
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl Error for ConfigError {}

impl Place {
    fn new(source: &str, span: Range<usize>) -> Self {
        let start = boundary(source, span.start);
        let end = boundary(source, span.end).max(start);
        let line_start = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |newline| start + newline);
        let width = source[start..end.min(line_end)].chars().count().max(1);
        Self {
            line: source[..line_start].matches('\n').count() + 1,
            column: source[line_start..start].chars().count() + 1,
            // A tab or control character would move the marker away from what it marks.
            text: source[line_start..line_end]
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
            width,
        }
    }
}

/// The last place in `source` at or before `index` where a character begins or the text ends.
fn boundary(source: &str, index: usize) -> usize {
    (0..=index.min(source.len())).rev().find(|&index| source.is_char_boundary(index)).unwrap_or(0)
}

/// Says where a switch belongs that stands among other keys: files of older versions have them below `[tuning]`.
fn switch(key: &str) -> Option<String> {
    let name = match key {
        "ip-forward" => "net.ipv4.ip_forward".to_owned(),
        "icmp-rate" => "net.ipv4.icmp_ratelimit".to_owned(),
        _ => key.replace('-', "_"),
    };
    let switch = Switch::find(&name)?;
    Some(format!("it is a switch: write `{}` below [sysctl]", switch.full_name()))
}

/// Names the known word that is meant, or else all of them.
pub(super) fn suggestion(word: &str, known: &[&str]) -> Option<String> {
    let nearest = known.iter().map(|name| (distance(word, name), name)).min()?;
    if nearest.0 <= word.chars().count().max(3) / 3 {
        return Some(format!("did you mean `{}`?", nearest.1));
    }
    let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    Some(format!("known are {}", names.join(", ")))
}

/// How many letters must be added, left out, replaced or swapped with their neighbour; `_` and `-` are the same.
fn distance(one: &str, other: &str) -> usize {
    let letters = |word: &str| -> Vec<char> {
        word.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).take(64).collect()
    };
    let (one, other) = (letters(one), letters(other));
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_stands_below_the_place() {
        let source = "[[service]]\nport = 80\nschéduler = \"rrr\"\n";
        let start = source.find("\"rrr\"").unwrap();
        let error =
            ConfigError::new(source, start..start + 5, "unknown scheduler `rrr`").hint("did you mean `rr`?");
        assert_eq!(
            error.show("a.toml").to_string(),
            "a.toml:3:13: unknown scheduler `rrr`\n  |\n3 | schéduler = \"rrr\"\n  |             ^^^^^ \
             did you mean `rr`?"
        );
        assert_eq!(error.to_string(), "3:13: unknown scheduler `rrr`; did you mean `rr`?");
    }

    #[test]
    fn slips_are_recognized() {
        for (slip, meant) in [("adress", "address"), ("wieght", "weight"), ("tunnel_port", "tunnel-port")] {
            let known = ["address", "method", "port", "tunnel", "tunnel-port", "weight"];
            assert_eq!(suggestion(slip, &known).unwrap(), format!("did you mean `{meant}`?"));
        }
    }

    #[test]
    fn for_a_word_like_no_other_all_are_listed() {
        assert_eq!(suggestion("quux", &["rr", "wrr"]).unwrap(), "known are `rr`, `wrr`");
    }

    #[test]
    fn places_outside_the_text_are_its_end() {
        let place = Place::new("a\nb", 90..99);
        assert_eq!((place.line, place.column, place.width), (2, 2, 1));
    }
}
