//! Asks the agent over HTTP: small answers of a server on this machine, nothing more.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// How long a connection or an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Status code and body of `http://127.0.0.1:{port}{path}`.
pub fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let about = || format!("cannot read http://{address}{path}");
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).with_context(about)?;
    stream.set_read_timeout(Some(TIMEOUT)).with_context(about)?;
    // HTTP/1.0: the body ends with the connection, and is never sent in chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(about)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(about)?;
    parse(&String::from_utf8_lossy(&answer)).with_context(about)
}

fn parse(answer: &str) -> Result<(u16, String)> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((
        status.context("the answer has no status code")?,
        body.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn an_answer_is_status_and_body() {
        let (status, body) = parse("HTTP/1.1 503 Busy\r\nx: y\r\n\r\nnot yet\n").unwrap();
        assert_eq!((status, body.as_str()), (503, "not yet\n"));
        assert!(parse("HTTP/1.1 200 OK\r\n").is_err());
        assert!(parse("what\r\n\r\n").is_err());
    }

    #[test]
    fn a_server_is_asked() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 128];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nready").unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        assert_eq!(get(port, "/readyz").unwrap(), (200, "ready".to_owned()));
        assert!(
            server
                .join()
                .unwrap()
                .starts_with("GET /readyz HTTP/1.0\r\n")
        );
        assert!(get(port, "/readyz").is_err(), "nobody listens any more");
    }
}
