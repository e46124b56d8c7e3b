//! Values for `serde` (feature `serde`): what is written as text anywhere else is text here too, by `Display` and
//! `FromStr`, so that a configuration in any format says `"tcp 192.0.2.1:80"` and `"wlc"`.

use core::fmt;
use core::marker::PhantomData;
use core::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::model::flow::{Family, Flow, Protocol};
use crate::model::key::ServiceKey;
use crate::model::method::{MethodKind, TunnelKind};
use crate::model::persistence::{Mask, PersistenceEngine};
use crate::model::reason::Reason;
use crate::model::server::Weight;
use crate::model::state::State;

/// Serializes types as the text that they write, and reads them from it.
macro_rules! as_text {
    ($($type:ty),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::model::serial::Text::<Self>::new())
            }
        }
    )+};
}
pub(crate) use as_text;

as_text!(Family, Flow, Mask, MethodKind, PersistenceEngine, Protocol, Reason, ServiceKey, TunnelKind);

/// Reads a value from text.
pub(crate) struct Text<T>(PhantomData<T>);

impl<T> Text<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T: FromStr<Err = crate::model::error::ParseError>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.get())
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(u32::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for State {
    /// The name that `ipvsadm -Lc` has for it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Counts as a map from the reasons' names.
pub(crate) fn by_reason<S: Serializer>(
    counts: &[u64; Reason::ALL.len()],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(counts.len()))?;
    for (reason, count) in Reason::ALL.iter().zip(counts) {
        map.serialize_entry(reason, count)?;
    }
    map.end()
}
