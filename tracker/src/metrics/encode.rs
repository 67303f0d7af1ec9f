//! From rows to text.

use std::collections::HashSet;

use prometheus::TextEncoder;

use super::catalog::families;
use super::duplicates;
use super::labelled::LabelledRows;
use super::rows::ScrapeRows;

/// `Content-Type` of the text: Prometheus text format 0.0.4.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The exposition could not be written; no input can cause that.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The encoder refused a family.
    #[error(
        "cannot encode the metrics: {0}; this is a bug of tracker, please report it with the \
         answer of /status"
    )]
    Encoder(#[from] prometheus::Error),
    /// A series is there twice.
    #[error(
        "cannot export the metrics: {0} is there twice; this is a bug of tracker, please report it \
         with the answer of /status"
    )]
    Duplicate(String),
}

/// About how much text a row of the VMA families takes, and how much the rest.
const ROOM_PER_ROW: usize = 2_000;
const ROOM_BESIDES: usize = 32_000;

/// Writes one scrape as text. Pure: the same rows give the same text.
///
/// # Errors
/// If the encoder refuses a family or, in debug builds, a series is there twice.
pub fn encode(rows: &ScrapeRows) -> Result<String, EncodeError> {
    let lines = LabelledRows::new(rows);
    let mut text = String::with_capacity(ROOM_PER_ROW * lines.vmas.len() + ROOM_BESIDES);
    let mut names = HashSet::new();
    // One at a time: the series of all of them take several times as much as their text.
    for family in families().filter_map(|family| family.gather(&lines)) {
        if cfg!(debug_assertions) {
            let again = !names.insert(family.name().to_owned());
            let series = again.then(|| family.name().to_owned());
            if let Some(series) = series.or_else(|| duplicates::find(&family)) {
                return Err(EncodeError::Duplicate(series));
            }
        }
        TextEncoder::new().encode_utf8(&[family], &mut text)?;
    }
    Ok(text)
}
