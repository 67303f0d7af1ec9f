//! Reads as much of the Prometheus text format as a table of VMAs needs.

use std::collections::BTreeMap;

/// One line of an exposition.
#[derive(Debug, PartialEq)]
pub struct MetricSeries {
    /// Name of the metric.
    pub name: String,
    /// Its labels, unescaped.
    pub labels: BTreeMap<String, String>,
    /// Value at the time of the scrape.
    pub value: f64,
}

/// All series of `text`; lines that do not parse are left out.
pub fn parse(text: &str) -> Vec<MetricSeries> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(series)
        .collect()
}

fn series(line: &str) -> Option<MetricSeries> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(MetricSeries {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut found = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((found, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        found.insert(name.to_owned(), value);
        rest = after;
    }
}

/// The text up to the closing quote, unescaped, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            _ => value.push(c),
        }
    }
    None
}

/// What the table shows of one VMA; `None` where the agent exports no such series.
#[derive(Default)]
struct VmaCells {
    faults: Option<f64>,
    armed: Option<f64>,
    written: Option<f64>,
    tables: Option<f64>,
}

/// The busiest VMAs of an exposition, at most `most`, as lines of a table.
pub fn table(text: &str, most: usize) -> Vec<String> {
    let mut rows: BTreeMap<[String; 4], VmaCells> = BTreeMap::new();
    for series in parse(text) {
        let label = |name: &str| series.labels.get(name).cloned();
        let (Some(pid), Some(comm), Some(vma)) = (label("pid"), label("comm"), label("vma")) else {
            continue;
        };
        let key = [pid, comm, vma, label("backing").unwrap_or_default()];
        let cell: fn(&mut VmaCells) -> &mut Option<f64> =
            match (series.name.as_str(), label("state").as_deref()) {
                ("uffdwp_faults_total", _) => |row| &mut row.faults,
                ("uffdwp_pages", Some("armed")) => |row| &mut row.armed,
                ("uffdwp_pages", Some("written")) => |row| &mut row.written,
                ("uffdwp_page_tables_allocated_total", _) => |row| &mut row.tables,
                _ => continue,
            };
        *cell(rows.entry(key).or_default()).get_or_insert(0.0) += series.value;
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    let rank = |row: &VmaCells| row.faults.or(row.armed).unwrap_or(0.0);
    rows.sort_by(|(_, a), (_, b)| rank(b).total_cmp(&rank(a)));
    let mut lines = vec![format!(
        "{:>8} {:<16} {:<16} {:<8} {:>10} {:>10} {:>10} {:>8}",
        "PID", "COMM", "VMA", "BACKING", "FAULTS", "ARMED", "WRITTEN", "TABLES"
    )];
    for ([pid, comm, vma, backing], row) in rows.iter().take(most) {
        let comm: String = comm
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        lines.push(format!(
            "{pid:>8} {comm:<16} {vma:<16} {backing:<8} {:>10} {:>10} {:>10} {:>8}",
            cell(row.faults),
            cell(row.armed),
            cell(row.written),
            cell(row.tables)
        ));
    }
    if rows.len() > most {
        lines.push(format!("{:>8} and {} more", "", rows.len() - most));
    }
    lines
}

/// A number, or a dash where there is none.
fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const SAMPLE: &str = r#"# HELP uffdwp_faults_total Write-protect faults.
# TYPE uffdwp_faults_total counter
uffdwp_faults_total{pid="7",comm="a \"b\" \\ {c}",vma="7f00",backing="anon",mode="sync"} 5
uffdwp_faults_total{pid="7",comm="a \"b\" \\ {c}",vma="7f00",backing="anon",mode="async"} 2
uffdwp_faults_total{pid="9",comm="x",vma="8f00",backing="shmem",mode="sync"} 9
uffdwp_pages{pid="7",comm="a \"b\" \\ {c}",vma="7f00",backing="anon",state="armed"} 12
uffdwp_node_faults_total{mode="sync"} 1e3
uffdwp_vma_bytes{pid="9",comm="x",vma="other",backing="other"} 4096
process_open_fds 12
broken{pid="1
"#;

    #[test]
    fn series_are_read_with_their_escapes() {
        let all = parse(SAMPLE);
        assert_eq!(all.len(), 7);
        assert_eq!(all[0].labels["comm"], r#"a "b" \ {c}"#);
        assert_eq!((all[4].value, all[6].value), (1000.0, 12.0));
        assert!(all[6].labels.is_empty());
    }

    #[test]
    fn the_busiest_vma_comes_first() {
        let lines = table(SAMPLE, 1);
        assert!(
            lines[1].contains("8f00") && lines[1].contains(" 9 "),
            "{}",
            lines[1]
        );
        assert!(lines[2].contains("and 1 more"));
        let lines = table(SAMPLE, 9);
        let words: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(words[words.len() - 4..], ["7", "12", "-", "-"]);
        assert_eq!(
            lines.len(),
            3,
            "a VMA without any of the columns is left out"
        );
        assert_eq!(table("", 9).len(), 1);
    }
}
