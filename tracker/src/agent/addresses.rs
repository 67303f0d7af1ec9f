//! Takes addresses out of what the agent tells whoever asks.
//!
//! Sentences of errors and notes name places in a process, some with its addresses. `/metrics`,
//! `/status` and `/readyz` are read without a password, so what goes there passes this place, unless
//! addresses are asked for (`--vma-label address`).

use serde_json::Value;

/// Digits after `0x` from which a number may be an address: the lowest mapping of a process begins
/// at `vm.mmap_min_addr`, by default 0x10000.
const SHORTEST: usize = 5;

/// The text without addresses: `0x7f3a00001000` becomes `0x...`.
pub(super) fn without_addresses(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("0x") {
        let (before, number) = rest.split_at(at + 2);
        let digits = number
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(number.len());
        kept.push_str(before);
        kept.push_str(match digits {
            SHORTEST.. => "...",
            _ => &number[..digits],
        });
        rest = &number[digits..];
    }
    kept + rest
}

/// The same for every text in a JSON value.
pub(super) fn hide_addresses(value: &mut Value) {
    match value {
        Value::String(text) => *text = without_addresses(text),
        Value::Array(values) => values.iter_mut().for_each(hide_addresses),
        Value::Object(values) => values.values_mut().for_each(hide_addresses),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_go_and_small_numbers_stay() {
        for (text, kept) in [
            (
                "of 0x7f3a00001000-0x7f3a00002000: EBUSY",
                "of 0x...-0x...: EBUSY",
            ),
            ("0x10000", "0x..."),
            ("flags 0x8000, 0x", "flags 0x8000, 0x"),
            ("a 0xZ 0x1cafe000h", "a 0xZ 0x...h"),
            ("", ""),
        ] {
            assert_eq!(without_addresses(text), kept);
        }
    }

    #[test]
    fn every_text_of_a_value_is_gone_through() {
        let mut value = json!({"a": [{"b": "at 0x7f3a00001000"}, 5, null]});
        hide_addresses(&mut value);
        assert_eq!(value, json!({"a": [{"b": "at 0x..."}, 5, null]}));
    }
}
