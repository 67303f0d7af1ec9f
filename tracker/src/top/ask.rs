//! Asks an agent over HTTP or HTTPS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::usage::{NodeUsage, PATH};

/// How long connecting and an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer: an agent with the most rows that it can have is far below.
const MOST: u64 = 256 << 20;

/// Where an agent is, and as whom it is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AgentPlace {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub url: String,
    /// Certificates, as PEM, of which one must have signed the agent's; without: none is known.
    pub roots: Option<Vec<u8>>,
    /// User and password.
    pub login: Option<(String, String)>,
}

/// Why an agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It could not be reached, or broke off.
    #[error("cannot read {url}: {error}{advice}")]
    Http {
        /// What was asked for.
        url: String,
        /// Why it failed.
        error: Box<ureq::Error>,
        /// What to do.
        advice: &'static str,
    },
    /// It answered that it does not answer.
    #[error("{url} answers with status {status}{advice}")]
    Status {
        /// What was asked for.
        url: String,
        /// Its code.
        status: u16,
        /// What to do.
        advice: &'static str,
    },
    /// It answered something else.
    #[error(
        "{url} answers something that is no list of processes: {error}; is that a tracker agent of this version?"
    )]
    Answer {
        /// What was asked for.
        url: String,
        /// Where it does not fit.
        error: serde_json::Error,
    },
    /// What it was given as certificates is none.
    #[error("no certificate could be read: {0}")]
    Roots(String),
}

/// A connection to an agent that is asked again and again.
pub(crate) struct AgentClient {
    agent: Agent,
    url: String,
    authorization: Option<String>,
}

impl fmt::Debug for AgentClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("AgentClient")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl AgentClient {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// If the certificates cannot be read.
    pub(crate) fn new(place: &AgentPlace) -> Result<Self, AskError> {
        let roots = match &place.roots {
            Some(pem) => certificates(pem)?,
            None => Vec::new(),
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build();
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .tls_config(tls)
            .build();
        let authorization = place.login.as_ref().map(|(user, password)| {
            use base64::Engine as _;
            let login = format!("{user}:{password}");
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(login)
            )
        });
        Ok(Self {
            agent: config.into(),
            url: format!("{}{PATH}", place.url.trim_end_matches('/')),
            authorization,
        })
    }

    /// What the agent tells now, as it tells it.
    ///
    /// # Errors
    /// If it cannot be reached or refuses.
    pub(crate) fn text(&self) -> Result<String, AskError> {
        let mut request = self.agent.get(&self.url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let failed = |error: ureq::Error| AskError::Http {
            url: self.url.clone(),
            advice: advice(&error),
            error: Box::new(error),
        };
        let mut answer = request.call().map_err(failed)?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(AskError::Status {
                url: self.url.clone(),
                status,
                advice: status_advice(status),
            });
        }
        let body = answer.body_mut().with_config().limit(MOST);
        body.read_to_string().map_err(failed)
    }

    /// What the agent tells now.
    ///
    /// # Errors
    /// If it cannot be reached, refuses, or says something else.
    pub(crate) fn usage(&self) -> Result<NodeUsage, AskError> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|error| AskError::Answer {
            url: self.url.clone(),
            error,
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, AskError> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(AskError::Roots(error.to_string())),
        }
    }
    if found.is_empty() {
        return Err(AskError::Roots("there is none in PEM format".to_owned()));
    }
    Ok(found)
}

fn advice(error: &ureq::Error) -> &'static str {
    let ureq::Error::Io(error) = error else {
        return "";
    };
    if error.kind() == std::io::ErrorKind::ConnectionRefused {
        return "; start one with `tracker agent`, or say where it is: `tracker top http://HOST:PORT`";
    }
    if error
        .get_ref()
        .is_some_and(|error| error.is::<rustls::Error>())
    {
        return "; --ca-file names the certificate that signed the agent's";
    }
    ""
}

const fn status_advice(status: u16) -> &'static str {
    match status {
        401 => "; it wants a user and a password: --user NAME, --password-file FILE",
        404 => "; is that a tracker agent of this version?",
        421 => "; it does not know that name of itself (--web.allowed-host of the agent)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    /// Answers once with `answer`; returns where, and what it was asked.
    fn server(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        (url, asked)
    }

    fn ask(url: &str, login: Option<(&str, &str)>) -> Result<NodeUsage, AskError> {
        let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
        let place = AgentPlace {
            url: url.to_owned(),
            roots: None,
            login,
        };
        AgentClient::new(&place)?.usage()
    }

    #[test]
    fn an_agent_is_asked_with_a_password() {
        let (url, asked) = server("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
        let error = ask(&url, Some(("me", "secret"))).unwrap_err().to_string();
        assert!(
            error.contains("status 401; it wants a user and a password"),
            "{error}"
        );
        let asked = asked.join().unwrap().to_lowercase();
        assert!(asked.starts_with("get /processes http/1.1"), "{asked}");
        // "me:secret"
        assert!(
            asked.contains("authorization: basic bwu6c2vjcmv0"),
            "{asked}"
        );
    }

    #[test]
    fn what_is_no_agent_is_told() {
        let (url, _) = server("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]");
        let error = ask(&url, None).unwrap_err().to_string();
        assert!(error.contains("no list of processes"), "{error}");
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap();
        let error = ask(&format!("http://{nobody}"), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("start one with `tracker agent`"), "{error}");
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        let place = AgentPlace {
            roots: Some(b"no".to_vec()),
            ..AgentPlace::default()
        };
        let error = AgentClient::new(&place).unwrap_err().to_string();
        assert!(error.starts_with("no certificate could be read"), "{error}");
    }
}
