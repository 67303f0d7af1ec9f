//! docs/inject.md says what can be noticed, and which test shows it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

const DOC: &str = include_str!("../../../docs/inject.md");

/// The rows of its table.
fn rows() -> Vec<Vec<&'static str>> {
    let (_, from) = DOC
        .split_once("| what | of what | how much | test |")
        .unwrap();
    let lines = from
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    lines.map(cells).collect()
}

/// The tests that a cell names.
fn named(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

/// The files in which a test may be: a program of this directory and its modules, or a module of a
/// crate.
fn sources(path: &[&str]) -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (program, modules) = path.split_first().unwrap();
    let file = |dir: &Path| {
        let module: PathBuf = modules.iter().collect();
        [
            dir.join(&module).with_extension("rs"),
            dir.join(module).join("mod.rs"),
        ]
        .to_vec()
    };
    if tests.join(program).with_extension("rs").exists() {
        match modules {
            [] => vec![tests.join(program).with_extension("rs")],
            _ => file(&tests.join(program)),
        }
    } else {
        file(&tests.join("../..").join(program).join("src"))
    }
}

#[test]
fn each_row_names_a_test_and_each_named_test_exists() {
    let rows = rows();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let [what, of, how_much, tests] = row[..] else {
            panic!("{row:?}");
        };
        assert!(!of.is_empty() && !how_much.is_empty(), "{row:?}");
        let is_measured = tests.contains("benches");
        assert!(
            is_measured || named(tests).count() > 0,
            "no test of {what} {of}"
        );
        for name in named(tests) {
            let mut path: Vec<_> = name.split("::").collect();
            let test = path.pop().unwrap();
            let texts = sources(&path)
                .into_iter()
                .filter_map(|it| fs::read_to_string(it).ok());
            let is_there = |text: &String| {
                let before = text
                    .split_once(&format!("fn {test}()"))
                    .map(|(before, _)| before);
                let attributes = before.and_then(|before| before.rsplit("\n\n").next());
                attributes.is_some_and(|attributes| attributes.contains("#[test]"))
            };
            let mut texts = texts.peekable();
            assert!(texts.peek().is_some(), "{name}: there is no such file");
            assert!(texts.any(|text| is_there(&text)), "there is no test {name}");
        }
    }
}
