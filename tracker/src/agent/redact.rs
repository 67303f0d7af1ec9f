//! `--redact`: names of processes and paths stay on this host. Pids, sizes and counts are told, and
//! what is withheld says so; the log has it.

use serde_json::Value;

use crate::metrics::TrackingRows;
use crate::model::SeriesView;

/// What stands for a sentence that may name processes or paths.
const WITHHELD: &str = "withheld by --redact; the log of the agent has it";

/// Takes the names and paths of processes that use uffd-wp away.
pub(super) fn series(view: &mut SeriesView) {
    for process in &mut view.processes {
        process.comm.clear();
        process.cgroup = None;
        for vma in &mut process.vmas {
            vma.name = None;
        }
    }
}

/// The same of processes that are tracked.
pub(super) fn tracking(rows: &mut TrackingRows) {
    for row in &mut rows.processes {
        row.comm.clear();
        row.selector = kind(&row.selector);
        withhold(&mut row.notes);
    }
}

/// Of those that are not tracked only the pid is told.
pub(super) fn refused(sentences: &mut [String]) {
    for sentence in sentences {
        let pid = sentence.split(' ').next().unwrap_or_default();
        *sentence = format!("{pid}: {WITHHELD}");
    }
}

/// The same in `/status`, by its keys.
pub(super) fn status(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match key.as_str() {
                    "comm" => *value = "".into(),
                    "selector" | "selectors" | "explain_selectors" => kinds(value),
                    "message" | "notes" | "first_refusal" | "first_refusals" => conceal(value),
                    _ => status(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(status),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn withhold(sentences: &mut [String]) {
    for sentence in sentences {
        WITHHELD.clone_into(sentence);
    }
}

/// `comm:redis` becomes `comm:...`.
fn kind(selector: &str) -> String {
    match selector.split_once(':') {
        Some(("pid", _)) => selector.to_owned(),
        Some((kind, _)) => format!("{kind}:..."),
        None => selector.to_owned(),
    }
}

fn kinds(value: &mut Value) {
    each_text(value, &|text| kind(text));
}

fn conceal(value: &mut Value) {
    each_text(value, &|_| WITHHELD.to_owned());
}

fn each_text(value: &mut Value, change: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = change(text),
        Value::Array(values) => values.iter_mut().for_each(|value| each_text(value, change)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| each_text(value, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn status_keeps_numbers_and_kinds() {
        let mut told = json!({
            "tracking": {
                "selectors": ["comm:secret", "pid:7", "cgroup:/secret"],
                "processes": [{"pid": 7, "comm": "secret", "selector": "comm:secret",
                               "notes": ["secret"], "rounds": 3}],
                "refused": [{"pid": 8, "reason": "traced", "message": "secret"}],
            },
            "discovery": {"first_refusals": {"stuck": "secret"}, "first_refusal": null},
            "level": {"reason": "no kprobes"},
        });
        status(&mut told);
        assert!(!told.to_string().contains("secret"), "{told}");
        let process = &told["tracking"]["processes"][0];
        assert_eq!(
            (&process["pid"], &process["rounds"]),
            (&json!(7), &json!(3))
        );
        assert_eq!(
            told["tracking"]["selectors"],
            json!(["comm:...", "pid:7", "cgroup:..."])
        );
        assert_eq!(told["tracking"]["refused"][0]["reason"], "traced");
        assert_eq!(told["discovery"]["first_refusal"], Value::Null);
        assert_eq!(told["level"]["reason"], "no kprobes");
    }

    #[test]
    fn a_refusal_is_its_pid() {
        let mut told = ["12 (a (b): c): it has a tracer, gdb".to_owned()];
        refused(&mut told);
        assert_eq!(told, [format!("12: {WITHHELD}")]);
    }
}
