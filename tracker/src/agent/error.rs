//! Why the agent cannot start or go on.

use super::http::WebConfigError;
use super::room::NoRoom;
use std::io;

/// A failure with what to do about it in its text.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// An option names something that does not exist.
    #[error("{0}")]
    Usage(String),
    /// There is no room for what it needs.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The web configuration cannot be used.
    #[error("--web.config.file: {0}")]
    WebConfig(WebConfigError),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {error}; {advice}")]
    Listen {
        /// Address and port, as asked for.
        address: String,
        /// What the kernel says.
        error: io::Error,
        /// What to do.
        advice: String,
    },
    /// The service manager passed nothing to listen on.
    #[error(
        "--web.systemd-socket: {0}; a .socket unit with ListenStream=ADDR:PORT passes one, else \
         give --web.listen-address ADDR:PORT"
    )]
    Passed(io::Error),
    /// The http server cannot start.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
    /// SIGTERM and SIGINT cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    /// A thread cannot be started.
    #[error("cannot start thread {name}: {error}")]
    Thread {
        /// The name of the thread.
        name: String,
        /// What the kernel says.
        error: io::Error,
    },
    /// A thread or task panicked: without it the agent would be blind to something.
    #[error("{0}; this is a bug of tracker's, please report it with the log")]
    Panicked(String),
    /// The http server ended.
    #[error("serving {addresses} failed: {error}")]
    Serve {
        /// Where it served.
        addresses: String,
        /// Why it ended.
        error: io::Error,
    },
}
