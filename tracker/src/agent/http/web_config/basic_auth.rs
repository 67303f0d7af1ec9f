//! Names and passwords (RFC 7617). A password is checked by bcrypt, which takes its time: what came
//! of it is remembered, and one check runs at a time, so that wrong ones keep out nobody who is
//! known.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bcrypt::HashParts;
use ring::digest::{SHA256, digest};
use tokio::sync::Semaphore;

use super::error::WebConfigError;
use super::reload::WebConfig;
use crate::agent::http::CHECKS_AT_ONCE;

/// Answers that are remembered; beyond them all are forgotten.
const REMEMBERED: usize = 100;
/// A hash of this cost takes seconds to check.
const MOST_COST: u32 = 16;
/// Checked for a name that nobody has, so that an answer takes as long as for one that exists: the
/// hash of a password that was thrown away, with cost 10.
const NOBODY: &str = "$2b$10$NGdAWIg7TdFAeoWEVoxC3u04DKRuKRhiNmYeU9Fb2VEpN1gNK5cYm";

/// Who may ask.
pub(super) struct WebUsers {
    hashes: BTreeMap<String, String>,
    /// By the digest of the header.
    remembered: Mutex<HashMap<[u8; 32], bool>>,
    /// Held while one is checked.
    checking: Arc<Semaphore>,
}

/// Name and password of a request.
#[derive(Debug, PartialEq, Eq)]
struct GivenPassword {
    user: String,
    password: String,
}

impl Default for WebUsers {
    /// Nobody, so that nobody needs a password.
    fn default() -> Self {
        Self {
            hashes: BTreeMap::new(),
            remembered: Mutex::default(),
            checking: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
        }
    }
}

impl WebUsers {
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Self, WebConfigError> {
        for (user, hash) in &hashes {
            check_hash(user, hash)?;
        }
        Ok(Self {
            hashes,
            ..Self::default()
        })
    }

    /// Whether a request with this header may be answered.
    async fn allows(&self, header: Option<&HeaderValue>) -> bool {
        if self.hashes.is_empty() {
            return true;
        }
        let Some(header) = header else { return false };
        let digest: [u8; 32] = match digest(&SHA256, header.as_bytes()).as_ref().try_into() {
            Ok(digest) => digest,
            Err(_) => return false,
        };
        if let Some(known) = self.remembered(&digest) {
            return known;
        }
        let Some(given) = GivenPassword::of(header) else {
            return false;
        };
        let Ok(permit) = self.checking.clone().acquire_owned().await else {
            return false;
        };
        // Somebody with the same header may have been before us.
        if let Some(known) = self.remembered(&digest) {
            return known;
        }
        let hash = self.hashes.get(&given.user).cloned();
        let work = tokio::task::spawn_blocking(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
            let right = bcrypt::verify(&given.password, &hash).unwrap_or(false);
            drop(permit);
            right && known
        });
        let allowed = work.await.unwrap_or(false);
        self.remember(digest, allowed);
        allowed
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<bool> {
        let remembered = self.remembered.lock();
        let remembered = remembered.unwrap_or_else(PoisonError::into_inner);
        remembered.get(digest).copied()
    }

    fn remember(&self, digest: [u8; 32], allowed: bool) {
        let remembered = self.remembered.lock();
        let mut remembered = remembered.unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            // Those that are right stay: they are few, and theirs is the time to be saved.
            remembered.retain(|_, allowed| *allowed);
        }
        if remembered.len() < REMEMBERED {
            remembered.insert(digest, allowed);
        }
    }
}

fn check_hash(user: &str, hash: &str) -> Result<(), WebConfigError> {
    let user = user.to_owned();
    if user.contains(':') {
        return Err(WebConfigError::Name { user });
    }
    match HashParts::from_str(hash) {
        Ok(parts) if parts.get_cost() > MOST_COST => Err(WebConfigError::Cost {
            user,
            cost: parts.get_cost(),
            most: MOST_COST,
        }),
        Ok(_) => Ok(()),
        Err(error) => Err(WebConfigError::Hash { user, error }),
    }
}

impl GivenPassword {
    fn of(header: &HeaderValue) -> Option<Self> {
        let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = STANDARD.decode(encoded.trim()).ok()?;
        let decoded = String::from_utf8(decoded).ok()?;
        let (user, password) = decoded.split_once(':')?;
        Some(Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

/// Answers those who may ask, with the headers of the file.
pub(in crate::agent::http) async fn check(
    State(config): State<WebConfig>,
    request: Request,
    next: Next,
) -> Response {
    let access = config.access();
    let given = request.headers().get(header::AUTHORIZATION);
    let mut response = if access.users.allows(given).await {
        next.run(request).await
    } else {
        let asks = [(header::WWW_AUTHENTICATE, "Basic")];
        (
            StatusCode::UNAUTHORIZED,
            asks,
            "name and password are needed\n",
        )
            .into_response()
    };
    response.headers_mut().extend(access.headers.clone());
    response
}
