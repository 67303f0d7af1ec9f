//! `--web.config.file`: TLS, passwords and headers, read again when the file or one that it names
//! has changed, and on SIGHUP.

mod basic_auth;
mod error;
mod format;
mod reload;
mod tls;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use rustls::ServerConfig;

use basic_auth::WebUsers;
use format::{HeadersText, WebConfigText};
use reload::FileState;

pub use error::WebConfigError;
pub use reload::WebConfig;

pub(super) use basic_auth::check;

/// What one reading of the file came to.
struct WebConfigState {
    /// `None`: plain HTTP.
    tls: Option<Arc<ServerConfig>>,
    access: Arc<WebAccess>,
    /// All files that were read, as they were before.
    files: Vec<FileState>,
}

/// What is asked of each request, and said in each answer.
pub(super) struct WebAccess {
    users: WebUsers,
    headers: HeaderMap,
}

impl WebAccess {
    /// Everybody may ask.
    fn open_to_all() -> Self {
        Self {
            users: WebUsers::default(),
            headers: HeaderMap::new(),
        }
    }
}

impl WebConfigState {
    fn read(path: &Path) -> Result<Self, WebConfigError> {
        let mut files = vec![FileState::of(path)];
        let text = fs::read_to_string(path).map_err(|error| WebConfigError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        // A file with nothing but comments.
        let empty = text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim().starts_with('#'));
        let text: WebConfigText = if empty {
            WebConfigText::default()
        } else {
            serde_saphyr::from_str(&text).map_err(|error| WebConfigError::Format {
                path: path.to_owned(),
                error: Box::new(error),
            })?
        };
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        let tls = match &text.tls_server_config {
            Some(tls) => {
                files.extend(tls::files(tls, base).iter().map(|file| FileState::of(file)));
                Some(Arc::new(tls::server_config(tls, base)?))
            }
            None => None,
        };
        let access = Arc::new(WebAccess {
            users: WebUsers::new(text.basic_auth_users)?,
            headers: headers(&text.http_server_config.headers)?,
        });
        Ok(Self { tls, access, files })
    }
}

/// Blank ones are left out.
fn headers(text: &HeadersText) -> Result<HeaderMap, WebConfigError> {
    let named: [(HeaderName, &'static str, &String); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "Content-Security-Policy",
            &text.content_security_policy,
        ),
        (
            header::X_FRAME_OPTIONS,
            "X-Frame-Options",
            &text.frame_options,
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            "X-Content-Type-Options",
            &text.content_type_options,
        ),
        (
            header::X_XSS_PROTECTION,
            "X-XSS-Protection",
            &text.xss_protection,
        ),
        (
            header::STRICT_TRANSPORT_SECURITY,
            "Strict-Transport-Security",
            &text.strict_transport_security,
        ),
    ];
    let mut headers = HeaderMap::new();
    for (name, header, value) in named.into_iter().filter(|(_, _, value)| !value.is_empty()) {
        let value = HeaderValue::from_str(value).map_err(|_| WebConfigError::Header {
            header,
            value: value.clone(),
        })?;
        headers.insert(name, value);
    }
    Ok(headers)
}
