//! Under which names the agent may be asked: the check of `Host`.
//!
//! A page in somebody's browser can have its own name point to this machine (DNS rebinding): to the
//! browser the agent is then that page's own server, and the page reads what it likes. The name
//! stays in the request, though. An address cannot be made to point elsewhere, and what runs beside
//! a browser has no need to lie.

use std::fs;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// A name under which clients may ask for the agent, as on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedHost {
    /// Any name at all: no check.
    Any,
    /// This one, in lower case.
    Name(String),
}

/// Why a text names no host.
#[derive(Debug, thiserror::Error)]
pub enum AllowedHostError {
    /// It has another form.
    #[error("`{0}` is not the name of a host; write for example node1.example.org, or * for any")]
    NoName(String),
    /// It has a port.
    #[error("the port does not matter: write {name} for `{0}`", name = before_port(.0))]
    Port(String),
}

impl FromStr for AllowedHost {
    type Err = AllowedHostError;

    fn from_str(text: &str) -> Result<Self, AllowedHostError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let authority = text.parse::<Authority>().ok();
        match authority.filter(|authority| !text.contains('@') && !authority.host().is_empty()) {
            None => Err(AllowedHostError::NoName(text.to_owned())),
            Some(authority) if authority.port().is_some() => {
                Err(AllowedHostError::Port(text.to_owned()))
            }
            Some(authority) => Ok(Self::Name(plain(authority.host()))),
        }
    }
}

fn before_port(text: &str) -> &str {
    text.rsplit_once(':').map_or(text, |(name, _)| name)
}

/// The names under which the agent answers.
#[derive(Clone, Debug)]
pub struct HostNames {
    any: bool,
    names: Vec<String>,
}

impl HostNames {
    /// The names of this machine, and `allowed`.
    #[must_use]
    pub fn of_machine(allowed: &[AllowedHost]) -> Self {
        let own = rustix::system::uname();
        // Without the file there are no further names.
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        Self::new(&own.nodename().to_string_lossy(), &hosts, allowed)
    }

    /// The host name of the machine, what `/etc/hosts` has in the same line (as `hostname -f`), and
    /// `allowed`. Other lines are not names of this machine: some block what they list.
    fn new(own: &str, hosts: &str, allowed: &[AllowedHost]) -> Self {
        let own = plain(own);
        let mut names = vec![own.clone()];
        for line in hosts.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let line: Vec<_> = line.split_whitespace().skip(1).map(plain).collect();
            if line.contains(&own) {
                names.extend(line);
            }
        }
        names.extend(allowed.iter().filter_map(|host| match host {
            AllowedHost::Any => None,
            AllowedHost::Name(name) => Some(name.clone()),
        }));
        names.retain(|name| !name.is_empty());
        Self {
            any: allowed.contains(&AllowedHost::Any),
            names,
        }
    }

    /// The first name of a request that is none of these. A request of HTTP/1.0 may have none; a
    /// browser always sends one.
    fn stranger(&self, uri: &Uri, headers: &HeaderMap) -> Option<String> {
        let in_uri = uri.authority().map(|authority| Ok(authority.clone()));
        let in_headers = headers.get_all(header::HOST).into_iter().map(|value| {
            let authority = Authority::try_from(value.as_bytes());
            authority.map_err(|_| String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        in_headers.chain(in_uri).find_map(|host| match host {
            Ok(authority) if self.allows(authority.host()) => None,
            Ok(authority) => Some(authority.host().to_owned()),
            // None of ours has characters that no name has.
            Err(text) => (!self.any).then_some(text),
        })
    }

    /// Whether `host`, without a port, may be asked for.
    fn allows(&self, host: &str) -> bool {
        let host = plain(host);
        let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        self.any
            || address.unwrap_or(&host).parse::<IpAddr>().is_ok()
            || host == "localhost"
            // RFC 6761, section 6.3: never asked of a name server.
            || host.ends_with(".localhost")
            || self.names.contains(&host)
    }
}

/// A name as names are compared: in lower case, without the dot of the root.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Refuses requests that ask for another host (421, RFC 9110, section 15.5.20).
pub(super) async fn check(
    State(names): State<Arc<HostNames>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(host) = names.stranger(request.uri(), request.headers()) else {
        return next.run(request).await;
    };
    tracing::warn!(host, "refused a request: Host is no name of this machine");
    let host: String = host.chars().take(100).collect();
    let words = format!(
        "this is not {}: ask for the address of this machine or its host name, or start the agent \
         with --web.allowed-host NAME\n",
        host.escape_debug()
    );
    (StatusCode::MISDIRECTED_REQUEST, words).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost\n\
        192.0.2.7 node1.example.org node1 # of the rack\n\
        0.0.0.0 ads.example.com\n\
        # 192.0.2.8 node1 old.example.org\n";

    fn names(allowed: &[&str]) -> HostNames {
        let allowed: Vec<_> = allowed.iter().map(|name| name.parse().unwrap()).collect();
        HostNames::new("node1", HOSTS, &allowed)
    }

    fn asked(names: &HostNames, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        names
            .stranger(&Uri::from_static("/metrics"), &headers)
            .is_none()
    }

    #[test]
    fn addresses_and_own_names_are_allowed_and_nothing_else() {
        let names = names(&["agent.example.net"]);
        for own in [
            "127.0.0.1:19943",
            "192.0.2.9",
            "[::1]:19943",
            "[2001:db8::1]",
            "localhost:19943",
            "LOCALHOST.",
            "a.localhost",
            "node1:19943",
            "Node1.Example.org.:80",
            "agent.example.net:1",
        ] {
            assert!(asked(&names, own), "{own}");
        }
        for strange in [
            "evil.example",
            "node1.evil.example:19943",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "ads.example.com",
            "old.example.org",
            "evil.example@",
            "::1",
            "",
            "a b",
        ] {
            assert!(!asked(&names, strange), "{strange}");
        }
    }

    #[test]
    fn every_name_of_a_request_counts() {
        let names = names(&[]);
        let mut headers = HeaderMap::new();
        let none = names.stranger(&Uri::from_static("/"), &headers);
        assert_eq!(none, None, "HTTP/1.0");
        headers.append(header::HOST, "localhost".parse().unwrap());
        let absolute = Uri::from_static("http://evil.example/metrics");
        let stranger = names.stranger(&absolute, &headers);
        assert_eq!(stranger.as_deref(), Some("evil.example"));
        headers.append(header::HOST, "evil.example".parse().unwrap());
        assert!(names.stranger(&Uri::from_static("/"), &headers).is_some());
    }

    #[test]
    fn a_star_allows_any() {
        let any = names(&["*"]);
        assert!(asked(&any, "evil.example") && asked(&any, "a b"));
    }

    #[test]
    fn what_names_no_host_is_refused() {
        for (text, hint) in [
            ("a:80", "write a for"),
            ("a b", "write for"),
            ("", "write for"),
        ] {
            let error = text.parse::<AllowedHost>().unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
