//! Keys about health.

use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::Whole;

/// `{ type = "http", .. }`: the keys of all types, because a table's type may stand behind them.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Check {
    pub(crate) r#type: Spanned<String>,
    pub(crate) interval: Option<Spanned<Seconds>>,
    pub(crate) timeout: Option<Spanned<Seconds>>,
    pub(crate) rise: Option<Spanned<Whole>>,
    pub(crate) fall: Option<Spanned<Whole>>,
    pub(crate) retry: Option<Spanned<Seconds>>,
    pub(crate) jitter: Option<Spanned<Seconds>>,
    pub(crate) warmup: Option<Spanned<Seconds>>,
    pub(crate) method: Option<Spanned<String>>,
    pub(crate) path: Option<Spanned<String>>,
    pub(crate) host: Option<Spanned<String>>,
    pub(crate) status: Option<Spanned<Status>>,
    pub(crate) text: Option<Spanned<String>>,
    pub(crate) digest: Option<Spanned<String>>,
    pub(crate) body_limit: Option<Spanned<Whole>>,
    pub(crate) trust: Option<Spanned<String>>,
    pub(crate) sni: Option<Spanned<String>>,
    pub(crate) payload: Option<Spanned<String>>,
    pub(crate) reply: Option<Spanned<String>>,
    pub(crate) shortest: Option<Spanned<Whole>>,
    pub(crate) longest: Option<Spanned<Whole>>,
    pub(crate) name: Option<Spanned<String>>,
    pub(crate) record: Option<Spanned<String>>,
    pub(crate) command: Option<Spanned<Vec<String>>>,
    pub(crate) dynamic: Option<Spanned<bool>>,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnFailure {
    Remove,
    Quiesce,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Initially {
    Up,
    Down,
    Unknown,
}

/// One table, or a list of them.
pub(crate) struct Several<T>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Expected<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Expected<T> {
            type Value = Several<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table or a list of tables")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Several<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| Several(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Several<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Several)
            }
        }
        deserializer.deserialize_any(Expected(PhantomData))
    }
}

/// A time: a number of seconds, or a text such as `500ms`, `2s`, `1.5s`, `3m`.
#[derive(Clone, Copy)]
pub(crate) struct Seconds(pub(crate) Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Expected;
        impl Visitor<'_> for Expected {
            type Value = Seconds;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time: seconds such as 2 or 0.5, or a text such as \"500ms\"")
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Seconds, E> {
                let time = u64::try_from(value).ok().map(Duration::from_secs).and_then(bounded);
                time.map(Seconds).ok_or_else(|| E::custom(format!("{value} is {}", crate::NoTime)))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Seconds, E> {
                let time = crate::Seconds::try_from(value).map(|time| Seconds(time.get()));
                time.map_err(|error| E::custom(format!("{value} is {error}")))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Seconds, E> {
                duration(text).map(Seconds).ok_or_else(|| {
                    E::custom(format!("`{text}` is no time, expected one such as \"500ms\" or \"2s\""))
                })
            }
        }
        deserializer.deserialize_any(Expected)
    }
}

/// A number with its unit.
fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at_checked(split)?;
    let unit = match unit.trim_start() {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return None,
    };
    crate::Seconds::try_from(number.parse::<f64>().ok()? * unit).ok().map(crate::Seconds::get)
}

/// A time that can be added to any moment.
fn bounded(time: Duration) -> Option<Duration> {
    crate::Seconds::try_from(time).ok().map(crate::Seconds::get)
}

/// An HTTP status, or a text of several.
pub(crate) struct Status(pub(crate) String);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Expected;
        impl Visitor<'_> for Expected {
            type Value = Status;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status such as 200, or a text such as \"200-299, 301\"")
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Status, E> {
                Ok(Status(value.to_string()))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Status, E> {
                Ok(Status(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Expected)
    }
}
