//! The address to listen on: `ADDR:PORT`, `[ADDR]:PORT`, `NAME:PORT` or `:PORT`.

use std::fmt;
use std::str::FromStr;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    /// Address or name; empty means all addresses of this host.
    host: String,
    port: u16,
}

impl ListenAddress {
    /// What to try to bind, in this order: a host without IPv6 cannot bind `[::]`.
    pub(crate) fn candidates(&self) -> Vec<String> {
        if self.host.is_empty() {
            return vec![
                format!("[::]:{}", self.port),
                format!("0.0.0.0:{}", self.port),
            ];
        }
        vec![self.to_string()]
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "`{text}` {why}; write ADDR:PORT, [IPV6]:PORT or :PORT, for example 127.0.0.1:19943"
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
        let port = port
            .parse()
            .map_err(|_| wrong("has no port from 0 to 65535"))?;
        if !valid_host(host) {
            return Err(wrong("has no valid address"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn valid_host(host: &str) -> bool {
    if let Some(v6) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        // A zone (`fe80::1%eth0`) is the resolver's business.
        let address = v6.split_once('%').map_or(v6, |(a, _)| a);
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    host.bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn candidates(text: &str) -> Vec<String> {
        text.parse::<ListenAddress>().unwrap().candidates()
    }

    #[test]
    fn accepts_what_exporters_accept() {
        assert_eq!(candidates("127.0.0.1:19943"), ["127.0.0.1:19943"]);
        assert_eq!(candidates("[::1]:1"), ["[::1]:1"]);
        assert_eq!(candidates("localhost:0"), ["localhost:0"]);
        assert_eq!(candidates(":9100"), ["[::]:9100", "0.0.0.0:9100"]);
    }

    #[test]
    fn refuses_the_rest_and_says_how_to_write_it() {
        for wrong in [
            "",
            "19943",
            "127.0.0.1",
            "::1:80x",
            "a:70000",
            "[::g]:1",
            "::1:1",
            "a b:1",
            "a:-1",
        ] {
            let message = wrong.parse::<ListenAddress>().unwrap_err();
            assert!(message.contains(":PORT"), "{wrong}: {message}");
        }
    }
}
