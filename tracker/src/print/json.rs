//! What all JSON of tracker has in common: one object a line, and addresses as text.

use serde::Serialize;
use serde::ser::Serializer;

/// An object as one line, with its line feed.
///
/// # Errors
/// None that our types allow.
pub(crate) fn line(object: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(object).map(|text| text + "\n")
}

/// An address in hexadecimal: many readers of JSON lose what is above 2^53 in numbers.
pub(crate) struct JsonAddress(pub u64);

impl Serialize for JsonAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}
