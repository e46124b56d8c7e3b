//! Rows, as a table for people and as JSON.

use lvs_support::println;
use serde_json::{Map, Value};

/// One measured figure.
pub(super) struct Row {
    /// What was measured, as it stands in the table.
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// What the machine alone takes, or allows, in the same unit as the value: for the same accesses to memory, say.
    pub(super) floor: Option<f64>,
    /// The aim, in the same unit as the value.
    pub(super) aim: Option<f64>,
    /// The row as JSON.
    pub(super) json: Value,
}

impl Row {
    /// A row whose JSON names it, with `key` for its value.
    pub(super) fn named(name: &str, label: String, key: &str, value: f64, unit: &'static str) -> Self {
        let mut json = Map::new();
        json.insert("row".to_owned(), name.into());
        json.insert(key.to_owned(), rounded(value));
        Self { label, value, unit, floor: None, aim: None, json: Value::Object(json) }
    }

    /// Adds a member to the row's JSON.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        if let Value::Object(members) = &mut self.json {
            members.insert(key.to_owned(), value.into());
        }
        self
    }

    /// Gives the row its floor, under the name `key` in its JSON.
    pub(super) fn with_floor(mut self, key: &str, floor: f64) -> Self {
        self.floor = Some(floor);
        self.with(key, rounded(floor))
    }

    /// Gives the row its aim.
    pub(super) fn with_aim(mut self, aim: Option<f64>) -> Self {
        self.aim = aim;
        self
    }
}

/// Prints rows as they come.
pub(super) struct Report {
    json: bool,
    begun: bool,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        Self { json, begun: false }
    }

    pub(super) fn add(&mut self, row: &Row) {
        if self.json {
            println!("{}", row.json);
            return;
        }
        if !self.begun {
            println!("{:<58} {:>14} {:>10} {:>10}", "what", "measured", "floor", "aim");
            self.begun = true;
        }
        let floor = row.floor.map(|floor| format!("{floor:.1} {}", row.unit)).unwrap_or_default();
        let aim = row.aim.map(|aim| format!("{aim} {}", row.unit)).unwrap_or_default();
        let value = format!("{:.1} {}", row.value, row.unit);
        println!("{:<58} {value:>14} {floor:>10} {aim:>10}", row.label);
    }
}

/// A figure with one decimal: more would be noise.
pub(super) fn rounded(value: f64) -> Value {
    Value::from((value * 10.0).round() / 10.0)
}
