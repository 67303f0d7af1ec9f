//! What the agent serves: `/metrics`, `/healthz`, `/readyz`, `/status`, `/processes` and a page at
//! `/`.
//!
//! The handlers only render what an [`AgentView`] gives them; they never read the kernel.

mod guard;
mod hosts;
mod passed;
mod peer;
mod server;
mod slots;
mod sock_diag;
mod web_config;

pub use hosts::{AllowedHost, AllowedHostError, HostNames};
pub use server::{HttpLimits, HttpServer, ListenPlaces};
pub use web_config::{WebConfig, WebConfigError};

pub(super) use slots::open_at_most;

use crate::metrics::{CONTENT_TYPE, EncodeError};
use crate::top;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::TimeoutLayer;

const JSON: &str = "application/json";

/// Scrapes that may encode at the same time; others wait for their turn.
pub(super) const SCRAPES_AT_ONCE: usize = 2;

/// What the handlers ask the running agent.
pub trait AgentView: Send + Sync + 'static {
    /// The exposition. May take milliseconds: called on a thread that may block.
    ///
    /// # Errors
    /// If the metrics cannot be encoded.
    fn metrics(&self) -> Result<String, EncodeError>;
    /// Whether the agent does what it was asked to do.
    fn readiness(&self) -> AgentReadiness;
    /// Everything about the agent itself.
    fn status(&self) -> Value;
    /// Who uses uffd-wp, and what was counted of it. As [`Self::metrics`], called on a thread that
    /// may block.
    ///
    /// # Errors
    /// None that its types allow.
    fn processes(&self) -> serde_json::Result<String>;
    /// The page at `/`, in HTML.
    ///
    /// # Errors
    /// None that its template allows.
    fn landing(&self) -> askama::Result<String>;
}

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReadiness {
    /// Whether the agent is ready.
    pub ready: bool,
    /// Why, in words.
    pub reason: String,
}

#[derive(Clone)]
struct HttpState {
    view: Arc<dyn AgentView>,
    scrapes: Arc<Semaphore>,
}

/// Checks of passwords at a time.
pub(super) const CHECKS_AT_ONCE: usize = 1;

/// The routes, for requests that ask for one of `hosts` and have what `web` asks for.
/// `telemetry_path` was validated by the command line.
pub fn router(
    view: Arc<dyn AgentView>,
    telemetry_path: &str,
    hosts: HostNames,
    web: WebConfig,
    timeout: Duration,
) -> Router {
    let app = HttpState {
        view,
        scrapes: Arc::new(Semaphore::new(SCRAPES_AT_ONCE)),
    };
    Router::new()
        .route(telemetry_path, get(metrics))
        .route("/", get(landing))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route(top::usage::PATH, get(processes))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found; / lists what is here\n") })
        .method_not_allowed_fallback(|| async {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are served here\n",
            )
        })
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn_with_state(web, web_config::check))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            timeout,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::new(hosts),
            hosts::check,
        ))
        .with_state(app)
}

async fn metrics(State(app): State<HttpState>) -> Response {
    encoded(app, CONTENT_TYPE, |view| {
        view.metrics().map_err(|error| error.to_string())
    })
    .await
}

async fn processes(State(app): State<HttpState>) -> Response {
    encoded(app, JSON, |view| {
        view.processes().map_err(|error| error.to_string())
    })
    .await
}

/// An answer that takes a while to make, of which few are made at a time.
async fn encoded(
    app: HttpState,
    content_type: &'static str,
    encode: fn(&dyn AgentView) -> Result<String, String>,
) -> Response {
    // The work keeps the permit: a client that gives up does not make room for more of it.
    let Ok(permit) = app.scrapes.clone().acquire_owned().await else {
        return unavailable("the agent is stopping".into());
    };
    let work = tokio::task::spawn_blocking(move || {
        let body = encode(app.view.as_ref());
        drop(permit);
        body
    });
    match work.await {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, content_type)], body).into_response(),
        Ok(Err(error)) => unavailable(error),
        Err(e) => unavailable(format!("the scrape failed: {e}")),
    }
}

async fn landing(State(app): State<HttpState>) -> Response {
    match app.view.landing() {
        Ok(page) => Html(page).into_response(),
        Err(error) => unavailable(error.to_string()),
    }
}

async fn readyz(State(app): State<HttpState>) -> Response {
    let AgentReadiness { ready, reason } = app.view.readiness();
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, reason + "\n").into_response()
}

async fn status(State(app): State<HttpState>) -> Response {
    let json = [(header::CONTENT_TYPE, JSON)];
    (json, format!("{:#}\n", app.view.status())).into_response()
}

fn unavailable(reason: String) -> Response {
    tracing::warn!(%reason, "request refused");
    (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response()
}
