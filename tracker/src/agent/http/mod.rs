//! What the agent serves: `/metrics`, `/healthz`, `/readyz`, `/status` and a page of links.
//!
//! The handlers only render what a [`View`] gives them; they never read the kernel.

mod guard;
mod landing;
mod server;

pub use server::{Limits, Server};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::TimeoutLayer;

/// The text format of the `prometheus` crate.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Scrapes that may encode at the same time; more wait for their turn.
const SCRAPES_AT_ONCE: usize = 2;

/// What the handlers ask the running agent.
pub trait View: Send + Sync + 'static {
    /// The exposition. May take milliseconds: called on a thread that may block.
    ///
    /// # Errors
    /// In words for the person who reads the response.
    fn metrics(&self) -> Result<Vec<u8>, String>;
    /// Whether the agent does what it was asked to do.
    fn readiness(&self) -> Readiness;
    /// Everything about the agent itself.
    fn status(&self) -> Value;
}

/// Answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Whether the agent is ready.
    pub ready: bool,
    /// Why, in words.
    pub reason: String,
}

#[derive(Clone)]
struct App {
    view: Arc<dyn View>,
    scrapes: Arc<Semaphore>,
    landing: Arc<str>,
}

/// The routes. `telemetry_path` was validated by the command line.
pub fn router(view: Arc<dyn View>, telemetry_path: &str, timeout: Duration) -> Router {
    let app = App {
        view,
        scrapes: Arc::new(Semaphore::new(SCRAPES_AT_ONCE)),
        landing: landing::page(telemetry_path).into(),
    };
    Router::new()
        .route(telemetry_path, get(metrics))
        .route(
            "/",
            get(|State(app): State<App>| async move { Html(app.landing.to_string()) }),
        )
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found; / lists what is here\n") })
        .method_not_allowed_fallback(|| async {
            (
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are served here\n",
            )
        })
        .layer(CompressionLayer::new())
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            timeout,
        ))
        .with_state(app)
}

async fn metrics(State(app): State<App>) -> Response {
    // A permit goes into the work: a client that gave up does not make room for more of it.
    let Ok(permit) = app.scrapes.clone().acquire_owned().await else {
        return unavailable("the agent is stopping".into());
    };
    let work = tokio::task::spawn_blocking(move || {
        let body = app.view.metrics();
        drop(permit);
        body
    });
    match work.await {
        Ok(Ok(body)) => ([(header::CONTENT_TYPE, EXPOSITION)], body).into_response(),
        Ok(Err(reason)) => unavailable(reason),
        Err(e) => unavailable(format!("the scrape failed: {e}")),
    }
}

async fn readyz(State(app): State<App>) -> Response {
    let Readiness { ready, reason } = app.view.readiness();
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, reason + "\n").into_response()
}

async fn status(State(app): State<App>) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, format!("{:#}\n", app.view.status())).into_response()
}

fn unavailable(reason: String) -> Response {
    tracing::warn!(%reason, "scrape refused");
    (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response()
}
