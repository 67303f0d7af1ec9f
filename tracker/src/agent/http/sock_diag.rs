//! Whose a TCP connection of this machine is: sock_diag(7), one question and one answer.

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::net::{IpAddr, SocketAddr};

/// `SOCK_DIAG_BY_FAMILY` (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` (linux/netlink.h).
const NLM_F_REQUEST: u16 = 1;
/// `IPPROTO_TCP`.
const IPPROTO_TCP: u8 = 6;
/// `TCP_ESTABLISHED` (net/tcp_states.h).
const TCP_ESTABLISHED: u8 = 1;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const REQUEST: usize = HEADER + 56;
/// Where `idiag_state` is in an answer (`struct inet_diag_msg`).
const STATE: usize = HEADER + 1;
/// Where `idiag_uid` is.
const UID: usize = HEADER + 64;
/// Where `idiag_inode` is; 0 for what no process has any more, whose user is not told.
const INODE: usize = HEADER + 68;
/// `struct nlmsghdr` and `struct inet_diag_msg`.
const ANSWER: usize = HEADER + 72;

/// The user who made the end `client` of a connection to `server`. Both are of one family.
///
/// # Errors
/// `ENOENT` if there is no such end in this network namespace, or it is closed; whatever the kernel
/// says where it has no `tcp_diag`, or a service may not open netlink sockets.
pub(super) fn owner_of(client: SocketAddr, server: SocketAddr) -> Result<u32, Errno> {
    let (socket, kernel) = (
        AddressFamily::NETLINK,
        netlink::SocketAddrNetlink::new(0, 0),
    );
    let socket = net::socket_with(
        socket,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    net::sendto(
        &socket,
        &request(client, server),
        SendFlags::empty(),
        &kernel,
    )?;
    // The answer is there when the question has been sent (netlink_unicast calls the handler).
    let mut answer = [0; 256];
    let (length, _) = net::recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    parse(answer.get(..length).unwrap_or_default()).ok_or(Errno::NOENT)
}

/// `struct nlmsghdr`, `struct inet_diag_req_v2`: the end whose own address is `client`.
fn request(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let family = match client {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let mut bytes = Vec::with_capacity(REQUEST);
    bytes.extend((REQUEST as u32).to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence and port.
    bytes.extend([0; 8]);
    bytes.extend([family.as_raw() as u8, IPPROTO_TCP, 0, 0]);
    // In all states.
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(client.port().to_be_bytes());
    bytes.extend(server.port().to_be_bytes());
    bytes.extend(address(client.ip()));
    bytes.extend(address(server.ip()));
    // On any interface, whatever its cookie (INET_DIAG_NOCOOKIE).
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend([0xff; 8]);
    bytes
}

fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The user in an answer; `None` if it is an error, or no open connection.
fn parse(answer: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    let word = |at: usize| Some(u32::from_ne_bytes(*answer.get(at..)?.first_chunk()?));
    let open = kind == SOCK_DIAG_BY_FAMILY
        && answer.len() >= ANSWER
        && answer.get(STATE) == Some(&TCP_ESTABLISHED)
        && word(INODE)? != 0;
    open.then(|| word(UID)).flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn answer(state: u8, uid: u32, inode: u32) -> Vec<u8> {
        let mut bytes = vec![0; ANSWER];
        bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes[STATE] = state;
        bytes[UID..][..4].copy_from_slice(&uid.to_ne_bytes());
        bytes[INODE..][..4].copy_from_slice(&inode.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_an_open_connection_has_a_user() {
        assert_eq!(parse(&answer(TCP_ESTABLISHED, 1000, 7)), Some(1000));
        // One that was closed is told as root's.
        assert_eq!(parse(&answer(TCP_ESTABLISHED, 0, 0)), None);
        assert_eq!(parse(&answer(5, 0, 7)), None);
        assert_eq!(parse(&answer(TCP_ESTABLISHED, 1000, 7)[..ANSWER - 1]), None);
        assert_eq!(parse(&[]), None);
    }

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let (v4, v6) = ("127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap());
        assert_eq!(request(v4, v4).len(), REQUEST);
        assert_eq!(request(v6, v6).len(), REQUEST);
    }
}
