//! JSON as Go's encoding/json reads it into a struct: keys match in any case, null leaves the zero, the last of several
//! values for one key counts, unknown keys are passed over.

use super::{Hidden, MessageError, Metas};
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// An object with its keys in lower case and without what is null.
struct Object(Map<String, Value>);

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    // The text of serde's errors may quote a value, and values may be secrets: only what kind it is.
    let problem = |error: serde_json::Error| MessageError::Json(format!("{:?} error", error.classify()).to_lowercase());
    let Object(object) = serde_json::from_slice(bytes).map_err(problem)?;
    T::deserialize(Value::Object(object)).map_err(problem)
}

pub(super) fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    // Structs of strings, numbers and maps of strings always have a form.
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"{}");
    }
}

/// Null values in a map of strings are empty strings.
pub(super) fn metas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Metas, D::Error> {
    let metas = BTreeMap::<String, Option<Hidden>>::deserialize(deserializer)?;
    Ok(metas.into_iter().map(|(name, value)| (name, value.unwrap_or_default())).collect())
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            /// `null` for a whole message is an empty one.
            fn visit_unit<E>(self) -> Result<Object, E> {
                Ok(Object(Map::new()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Object, A::Error> {
                let mut object = Map::new();
                while let Some((mut key, value)) = members.next_entry::<String, Value>()? {
                    if !value.is_null() {
                        key.make_ascii_lowercase();
                        object.insert(key, value);
                    }
                }
                Ok(Object(object))
            }
        }

        deserializer.deserialize_any(Members)
    }
}
