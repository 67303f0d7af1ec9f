//! Who a client is, as far as connections are bounded for each: on this machine a user, elsewhere
//! an address.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::TcpStream;

use super::sock_diag::owner_of;

/// Who holds a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ClientPeer {
    /// A user of this machine.
    User(u32),
    /// An IPv4 address; 127.0.0.1 for all of 127.0.0.0/8, which any user of this machine can take.
    Address(Ipv4Addr),
    /// The first 64 bits of an IPv6 address: one host can have all that begin so.
    Network(u64),
}

impl ClientPeer {
    /// Who is at the other end.
    ///
    /// # Errors
    /// If the connection has ended.
    pub(super) fn of(stream: &TcpStream) -> io::Result<Self> {
        let (client, server) = (stream.peer_addr()?, stream.local_addr()?);
        let canonical =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (client, server) = (canonical(client), canonical(server));
        // A user of this machine can come from any of its addresses. Where that cannot be told (no
        // tcp_diag, another network namespace), the address is all there is.
        Ok(owner_of(client, server).map_or_else(|_| Self::at(client.ip()), Self::User))
    }

    fn at(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) if address.is_loopback() => Self::Address(Ipv4Addr::LOCALHOST),
            IpAddr::V4(address) => Self::Address(address),
            IpAddr::V6(address) => Self::Network((address.to_bits() >> 64) as u64),
        }
    }
}

impl fmt::Display for ClientPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Address(address) => address.fmt(f),
            Self::Network(bits) => {
                write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*bits) << 64))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_one_host_can_choose_is_one_peer() {
        let at = |text: &str| ClientPeer::at(text.parse().unwrap()).to_string();
        assert_eq!(at("127.9.9.9"), "127.0.0.1");
        assert_eq!(at("192.0.2.1"), "192.0.2.1");
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff"));
        assert_eq!(at("2001:db8:0:1::1"), "2001:db8:0:1::/64");
    }

    #[tokio::test]
    async fn a_client_of_this_machine_is_its_user() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        match ClientPeer::of(&stream).unwrap() {
            ClientPeer::User(uid) => assert_eq!(uid, rustix::process::getuid().as_raw()),
            other => eprintln!("no tcp_diag here: {other}"),
        }
    }
}
