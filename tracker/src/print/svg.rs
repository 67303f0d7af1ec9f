//! Writing SVG: as much of it as our pictures need.

use std::fmt::{Display, Write as _};

/// SVG text that grows into a document.
#[derive(Default)]
pub(crate) struct SvgText(String);

/// Which part of a text lies at its coordinates.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TextAnchor {
    Start,
    Middle,
    End,
}

impl SvgText {
    /// Adds an element without content; values are escaped.
    pub(crate) fn element(&mut self, name: &str, attributes: &[(&str, &dyn Display)]) {
        self.tag(name, attributes);
        self.0.push_str("/>\n");
    }

    /// Adds a piece of SVG as it is.
    pub(crate) fn raw(&mut self, piece: &str) {
        self.0.push_str(piece);
    }

    /// Adds a rectangle of one colour.
    pub(crate) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        let all: [(&str, &dyn Display); 5] = [
            ("x", &ShortNumber(x)),
            ("y", &ShortNumber(y)),
            ("width", &ShortNumber(width)),
            ("height", &ShortNumber(height)),
            ("fill", &fill),
        ];
        self.element("rect", &all);
    }

    /// Adds a line; its class says how it looks.
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let all: [(&str, &dyn Display); 5] = [
            ("x1", &ShortNumber(from.0)),
            ("y1", &ShortNumber(from.1)),
            ("x2", &ShortNumber(to.0)),
            ("y2", &ShortNumber(to.1)),
            ("class", &class),
        ];
        self.element("line", &all);
    }

    /// Adds a text, escaped.
    pub(crate) fn text(&mut self, x: f64, y: f64, class: &str, anchor: TextAnchor, text: &str) {
        let anchor = match anchor {
            TextAnchor::Start => "start",
            TextAnchor::Middle => "middle",
            TextAnchor::End => "end",
        };
        self.tag(
            "text",
            &[
                ("x", &ShortNumber(x)),
                ("y", &ShortNumber(y)),
                ("class", &class),
                ("text-anchor", &anchor),
            ],
        );
        let _ = writeln!(self.0, ">{}</text>", escaped(text));
    }

    /// All that was added.
    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn tag(&mut self, name: &str, attributes: &[(&str, &dyn Display)]) {
        let _ = write!(self.0, "<{name}");
        for (key, value) in attributes {
            let _ = write!(self.0, " {key}=\"{}\"", escaped(&value.to_string()));
        }
    }
}

/// A coordinate, printed with at most two decimals.
pub(crate) struct ShortNumber(pub f64);

impl Display for ShortNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Escapes for content and attributes. What XML cannot hold at all is replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// About how wide a text is in DejaVu Sans, in units of the picture.
pub(crate) fn width(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' | '!' => 0.32,
        'f' | 't' | 'r' | '(' | ')' | '[' | ']' | '/' | '\\' | '-' | 'I' => 0.41,
        'm' | 'w' | 'M' | 'W' | '%' | '@' | '…' => 0.98,
        c if c.is_ascii_uppercase() || c == '&' => 0.74,
        c if c.is_ascii() => 0.63,
        '\u{1100}'.. => 1.0,
        _ => 0.65,
    };
    text.chars().map(em).sum::<f64>() * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_a_text() {
        let mut svg = SvgText::default();
        svg.text(
            1.0,
            2.5,
            "x",
            TextAnchor::End,
            "</text><script a='\"'>&\u{1b}\u{ffff}",
        );
        assert_eq!(
            svg.finish(),
            "<text x=\"1\" y=\"2.5\" class=\"x\" text-anchor=\"end\">&lt;/text&gt;&lt;script \
             a=&#39;&quot;&#39;&gt;&amp;\u{fffd}\u{fffd}</text>\n"
        );
    }
}
