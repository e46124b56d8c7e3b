//! `[sysctl]`: switches by their names.

use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use toml::Spanned;

/// Switches with their values, in the order of the file. A name may be written in quotes, or with its dots as TOML's
/// own: `net.ipv4.vs.sloppy_tcp = 1` is a table in a table in a table, whose keys are joined again here.
#[derive(Default)]
pub(in crate::config) struct Sysctl(pub(in crate::config) Vec<Switch>);

/// A switch as it is written.
pub(in crate::config) struct Switch {
    pub(in crate::config) name: Spanned<String>,
    pub(in crate::config) value: Spanned<String>,
}

/// What stands behind a key: a value as the switch's file would take it, or more keys.
enum Node {
    Value(String),
    Table(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Sysctl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut switches = Vec::new();
        match Node::deserialize(deserializer)? {
            Node::Value(_) => return Err(D::Error::custom("expected a table of switches and their values")),
            Node::Table(entries) => collect("", entries, &mut switches),
        }
        Ok(Self(switches))
    }
}

/// Puts what is in a table below `prefix` into the list.
fn collect(prefix: &str, entries: Vec<(Spanned<String>, Spanned<Node>)>, to: &mut Vec<Switch>) {
    for (key, node) in entries {
        let span = key.span();
        let name = format!("{prefix}{}", key.get_ref());
        let value_span = node.span();
        match node.into_inner() {
            Node::Table(entries) => collect(&format!("{name}."), entries, to),
            Node::Value(value) => {
                to.push(Switch { name: Spanned::new(span, name), value: Spanned::new(value_span, value) });
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Expected;
        impl<'de> Visitor<'de> for Expected {
            type Value = Node;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text such as \"3 50\", true or false")
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<Node, E> {
                Ok(Node::Value(u8::from(on).to_string()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Node, E> {
                Ok(Node::Value(number.to_string()))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Value(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Table(entries))
            }
        }
        deserializer.deserialize_any(Expected)
    }
}
