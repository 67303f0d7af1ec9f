//! Listeners that a service manager opened (socket activation, sd_listen_fds(3)).

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

use crate::agent::AgentError;

/// Takes the listeners that were passed.
///
/// # Errors
/// [`AgentError::Passed`] if there is none, or one of them is no TCP socket.
pub(super) fn listeners() -> Result<Vec<TcpListener>, AgentError> {
    let mut passed = ListenFd::from_env();
    if passed.len() == 0 {
        let none = "the service manager passed no socket (LISTEN_FDS)";
        return Err(AgentError::Passed(io::Error::other(none)));
    }
    let numbers = 0..passed.len();
    let listeners = numbers.map(|number| listener(&mut passed, number));
    listeners
        .collect::<Result<_, _>>()
        .map_err(AgentError::Passed)
}

fn listener(passed: &mut ListenFd, number: usize) -> io::Result<TcpListener> {
    let taken = passed.take_tcp_listener(number);
    let wrong = |why| io::Error::other(format!("socket {number} of those passed: {why}"));
    let listener = taken.map_err(|error| wrong(error.to_string()))?;
    let listener = listener.ok_or_else(|| wrong("it is taken".into()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
