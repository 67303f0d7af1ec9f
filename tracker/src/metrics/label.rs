//! Label values out of arbitrary bytes: a comm, a path or a cgroup can hold anything but zero.

use prometheus::proto::LabelPair;

/// Longest label value that we write for bytes from outside, in bytes; what is cut off is at the
/// front, because paths differ at the end.
const MAX_LEN: usize = 200;

/// Marks that something was cut off.
const CUT: char = '…';

/// Turns bytes into text that can be told apart: what is not UTF-8, and control characters, become
/// `\xNN`. Quotes, backslashes and newlines that remain are escaped by the encoder.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    bounded(text)
}

fn escape(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

fn bounded(text: String) -> String {
    if text.len() <= MAX_LEN {
        return text;
    }
    let cut = text.ceil_char_boundary(text.len() - (MAX_LEN - CUT.len_utf8()));
    format!("{CUT}{}", &text[cut..])
}

/// A label with its value.
#[must_use]
pub(super) fn pair(name: &str, value: impl Into<String>) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.into());
    pair
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay() {
        assert_eq!(text(b"qemu-system-x86"), "qemu-system-x86");
        assert_eq!(text("größe".as_bytes()), "größe");
    }

    #[test]
    fn invalid_utf8_and_control_characters_become_escapes() {
        assert_eq!(text(b"a\xffb"), "a\\xffb");
        assert_eq!(text(b"\xe2\x82"), "\\xe2\\x82");
        assert_eq!(text(b"a\nb\tc\x7f"), "a\\x0ab\\x09c\\x7f");
        assert_eq!(text("\u{85}".as_bytes()), "\\xc2\\x85");
    }

    #[test]
    fn quotes_and_backslashes_are_the_encoders_work() {
        assert_eq!(text(br#"a"b\c"#), r#"a"b\c"#);
    }

    #[test]
    fn long_values_keep_their_end() {
        let long = format!("{}/end", "é".repeat(300));
        let cut = text(long.as_bytes());
        assert!(cut.len() <= MAX_LEN, "{}", cut.len());
        assert!(cut.starts_with('…') && cut.ends_with("/end"));
        assert_eq!(text(&[b'x'; MAX_LEN]).len(), MAX_LEN);
        assert_eq!(text(&[0xff; 4000]).len() / 4, MAX_LEN / 4);
    }
}
