//! Sentences in lines.

/// Columns of a printed report.
pub(crate) const WIDTH: usize = 100;
/// How far what belongs to a line is indented below it.
pub(crate) const INDENT: usize = 6;

/// Breaks `text` into lines of at most [`WIDTH`] characters, the first after `first` and all others
/// indented. A word longer than a line stands on its own.
pub(crate) fn wrapped(first: &str, indent: usize, text: &str) -> String {
    let mut lines = String::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        let wide = line.chars().count() + 1 + word.chars().count();
        if !empty && wide > WIDTH {
            lines += line.trim_end();
            lines.push('\n');
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line += word;
        empty = false;
    }
    lines += line.trim_end();
    lines.push('\n');
    lines
}

/// Cuts a line of a table that is too long: its end, where names are, goes.
pub(crate) fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_wider_than_told() {
        let text = wrapped("- ", 2, &"seven ch ".repeat(40));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        assert!(
            text.lines()
                .skip(1)
                .all(|line| line.starts_with("  s") || line.starts_with("  c"))
        );
        assert_eq!(wrapped("", 4, ""), "\n");
        assert_eq!(wrapped("", 4, &"x".repeat(300)).lines().count(), 1);
    }
}
