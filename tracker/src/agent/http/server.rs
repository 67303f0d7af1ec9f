//! Binds and serves, with a timeout on everything a client does.

use super::guard::ConnectionGuard;
use super::passed;
use crate::agent::AgentError;
use axum::Router;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use hyper_util::rt::TokioTimer;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{SocketAddr, SocketAddrV6, TcpListener};
use std::time::Duration;
use tokio::task::JoinSet;

/// What clients may hold and for how long.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Connections at once; beyond them one of whoever holds most is given up.
    pub connections: usize,
    /// Time to send a whole request head, on a kept connection too.
    pub request: Duration,
    /// Time to answer a request.
    pub response: Duration,
    /// Time a client may leave its response unread.
    pub unread: Duration,
    /// Time for open requests to end once the agent stops.
    pub drain: Duration,
}

impl Default for HttpLimits {
    /// Prometheus gives up after 10 s by default (`scrape_timeout`).
    fn default() -> Self {
        Self {
            connections: 64,
            request: Duration::from_secs(10),
            response: Duration::from_secs(10),
            unread: Duration::from_secs(10),
            drain: Duration::from_secs(2),
        }
    }
}

/// Connections that wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 128;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenPlaces {
    /// At each of these; of each the first that can be bound (`ADDR:PORT`).
    Bind(Vec<Vec<String>>),
    /// Where the service manager listens already (sd_listen_fds(3)).
    Passed,
}

/// Bound listeners, which share their limits.
#[derive(Debug)]
pub struct HttpServer {
    listeners: Vec<TcpListener>,
    /// What clients may hold and for how long.
    pub limits: HttpLimits,
    /// Where it listens: at least one address.
    pub addresses: Vec<SocketAddr>,
}

impl HttpServer {
    /// Takes or binds a listener for each place.
    ///
    /// # Errors
    /// [`AgentError::Listen`] with the flag to change, [`AgentError::Passed`] where the service
    /// manager passed nothing that can be used.
    pub fn open(places: &ListenPlaces, limits: HttpLimits) -> Result<Self, AgentError> {
        let listeners = match places {
            ListenPlaces::Bind(all) => all.iter().map(|one| bind(one)).collect::<Result<_, _>>()?,
            ListenPlaces::Passed => passed::listeners()?,
        };
        let addresses = listeners.iter().map(TcpListener::local_addr);
        let addresses = addresses.collect::<Result<_, _>>();
        Ok(Self {
            addresses: addresses.map_err(AgentError::Passed)?,
            listeners,
            limits,
        })
    }

    /// Serves until `handle` is told to stop; with TLS where there is a configuration of it.
    ///
    /// # Errors
    /// When one of the listeners fails.
    pub async fn serve(
        self,
        router: Router,
        tls: Option<RustlsConfig>,
        handle: Handle<SocketAddr>,
    ) -> io::Result<()> {
        let guard = ConnectionGuard::new(self.limits.connections, self.limits.unread);
        let mut servers = JoinSet::new();
        for listener in self.listeners {
            let server = axum_server::from_tcp(listener)?.handle(handle.clone());
            let (service, tls) = (router.clone().into_make_service(), tls.clone());
            let (guard, limits) = (guard.clone(), self.limits);
            servers.spawn(async move {
                let Some(tls) = tls else {
                    return bounded(server.acceptor(guard), limits).serve(service).await;
                };
                let tls = RustlsAcceptor::new(tls).handshake_timeout(limits.request);
                let server = server.acceptor(tls.acceptor(guard));
                bounded(server, limits).serve(service).await
            });
        }
        while let Some(ended) = servers.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

/// HTTP/1 only: guessing the version from the first bytes has no timeout in hyper-util.
fn bounded<A>(server: Server<SocketAddr, A>, limits: HttpLimits) -> Server<SocketAddr, A> {
    let mut server = server.http1_only();
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .max_headers(64)
        .max_buf_size(16 * 1024);
    server
}

/// Binds the first of `candidates` that can be bound.
fn bind(candidates: &[String]) -> Result<TcpListener, AgentError> {
    let mut result = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
    for candidate in candidates {
        result = listen(candidate);
        // A port that is busy is busy for the next candidate, too.
        let busy = |e: &io::Error| e.kind() == io::ErrorKind::AddrInUse;
        if result.as_ref().err().is_none_or(busy) {
            break;
        }
    }
    result.map_err(|e| refusal(candidates, e))
}

fn listen(address: &str) -> io::Result<TcpListener> {
    let listener = match address.parse() {
        Ok(SocketAddr::V6(all)) if all.ip().is_unspecified() => both_families(all)?,
        _ => TcpListener::bind(address)?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Listens on all addresses of both families, whatever `net.ipv6.bindv6only` says (ipv6(7)).
fn both_families(all: SocketAddrV6) -> io::Result<TcpListener> {
    let socket = net::socket_with(
        AddressFamily::INET6,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    net::bind(&socket, &all)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

fn refusal(candidates: &[String], error: io::Error) -> AgentError {
    let address = candidates.first().map_or("", String::as_str);
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another agent or program has this port: `ss -ltnp sport = :{port}` names it; \
             choose another port with --web.listen-address ADDR:PORT"
        ),
        io::ErrorKind::PermissionDenied => "ports below 1024 need CAP_NET_BIND_SERVICE; \
             choose another with --web.listen-address ADDR:PORT"
            .into(),
        _ => "give an address of this host with --web.listen-address ADDR:PORT".into(),
    };
    AgentError::Listen {
        address: address.to_owned(),
        error,
        advice,
    }
}
