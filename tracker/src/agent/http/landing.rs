//! The page at `/`: links to everything else.

/// Writes the page. `telemetry_path` holds no character that HTML treats specially.
pub fn page(telemetry_path: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>tracker</title></head>\n\
         <body><h1>tracker {version}</h1>\n\
         <p>What userfaultfd write-protection does on this machine.</p>\n<ul>\n\
         <li><a href=\"{telemetry_path}\">{telemetry_path}</a>: metrics for Prometheus</li>\n\
         <li><a href=\"/status\">/status</a>: \
         level, every hook with its reason, bounds (JSON)</li>\n\
         <li><a href=\"/readyz\">/readyz</a>: whether the agent does what it was asked to</li>\n\
         <li><a href=\"/healthz\">/healthz</a>: whether it answers</li>\n</ul></body></html>\n"
    )
}
