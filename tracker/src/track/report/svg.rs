//! Writing SVG: as much of it as a picture here needs.

use std::fmt::{Display, Write as _};

/// Text that grows into a document.
#[derive(Default)]
pub struct Svg(String);

/// Which end of a text its place is.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

impl Svg {
    /// An element without content; values are escaped.
    pub fn element(&mut self, name: &str, attributes: &[(&str, &dyn Display)]) {
        self.tag(name, attributes);
        self.0.push_str("/>\n");
    }

    /// A piece of a document that is right already.
    pub fn raw(&mut self, piece: &str) {
        self.0.push_str(piece);
    }

    /// A rectangle of one colour.
    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, fill: &str) {
        let all: [(&str, &dyn Display); 5] = [
            ("x", &Short(x)),
            ("y", &Short(y)),
            ("width", &Short(width)),
            ("height", &Short(height)),
            ("fill", &fill),
        ];
        self.element("rect", &all);
    }

    /// A line, and its further attributes.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let all: [(&str, &dyn Display); 5] = [
            ("x1", &Short(from.0)),
            ("y1", &Short(from.1)),
            ("x2", &Short(to.0)),
            ("y2", &Short(to.1)),
            ("class", &class),
        ];
        self.element("line", &all);
    }

    /// A text, whatever is in it.
    pub fn text(&mut self, x: f64, y: f64, class: &str, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.tag(
            "text",
            &[
                ("x", &Short(x)),
                ("y", &Short(y)),
                ("class", &class),
                ("text-anchor", &anchor),
            ],
        );
        let _ = writeln!(self.0, ">{}</text>", escaped(text));
    }

    /// The document.
    pub fn finish(self) -> String {
        self.0
    }

    fn tag(&mut self, name: &str, attributes: &[(&str, &dyn Display)]) {
        let _ = write!(self.0, "<{name}");
        for (key, value) in attributes {
            let _ = write!(self.0, " {key}=\"{}\"", escaped(&value.to_string()));
        }
    }
}

/// A coordinate with at most two decimals.
pub struct Short(pub f64);

impl Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = format!("{:.2}", self.0);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// For content and attributes. What XML cannot have at all is replaced.
pub fn escaped(text: &str) -> String {
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

/// About how wide a text is in DejaVu Sans, in pixels.
pub fn width(text: &str, size: f64) -> f64 {
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
        let mut svg = Svg::default();
        svg.text(
            1.0,
            2.5,
            "x",
            Anchor::End,
            "</text><script a='\"'>&\u{1b}\u{ffff}",
        );
        assert_eq!(
            svg.finish(),
            "<text x=\"1\" y=\"2.5\" class=\"x\" text-anchor=\"end\">&lt;/text&gt;&lt;script \
             a=&#39;&quot;&#39;&gt;&amp;\u{fffd}\u{fffd}</text>\n"
        );
    }
}
