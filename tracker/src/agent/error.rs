//! Why the agent cannot start or go on.

/// A failure with what to do about it in its text.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// An option names something that does not exist.
    #[error("{0}")]
    Usage(String),
    /// This kernel or this privilege cannot do it.
    #[error("{0}")]
    Unable(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}
