//! A log line in logfmt.

use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent as _;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// `ts=... level=info target=... msg="..." key=value`.
pub(super) struct LogfmtFormat;

impl<S, N> FormatEvent<S, N> for LogfmtFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        write!(writer, "ts=")?;
        SystemTime.format_time(&mut writer)?;
        let level = metadata.level().as_str().to_ascii_lowercase();
        write!(writer, " level={level} target={}", metadata.target())?;
        let mut fields = LogfmtFields {
            writer: &mut writer,
            result: Ok(()),
        };
        event.record(&mut fields);
        fields.result?;
        writeln!(writer)
    }
}

struct LogfmtFields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    result: fmt::Result,
}

impl LogfmtFields<'_, '_> {
    fn put(&mut self, field: &Field, value: &str) {
        // What the `log` bridge adds is metadata, told above.
        if self.result.is_err() || field.name().starts_with("log.") {
            return;
        }
        let key = if field.name() == "message" {
            "msg"
        } else {
            field.name()
        };
        self.result = write!(self.writer, " {key}={}", LogfmtValue(value));
    }
}

impl Visit for LogfmtFields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

/// A logfmt value: quoted where a bare word would be ambiguous; one line whatever it holds.
struct LogfmtValue<'a>(&'a str);

impl fmt::Display for LogfmtValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\');
        if !self.0.is_empty() && self.0.chars().all(bare) {
            return f.write_str(self.0);
        }
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::LogfmtValue;

    #[test]
    fn a_value_cannot_break_its_line_or_fake_a_key() {
        assert_eq!(LogfmtValue("full").to_string(), "full");
        assert_eq!(LogfmtValue("").to_string(), "\"\"");
        assert_eq!(LogfmtValue("a b").to_string(), "\"a b\"");
        assert_eq!(
            LogfmtValue("x\nlevel=error").to_string(),
            "\"x\\nlevel=error\""
        );
        assert_eq!(LogfmtValue("say \"hi\"").to_string(), "\"say \\\"hi\\\"\"");
    }
}
