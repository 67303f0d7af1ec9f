//! Bounds what clients can hold: connections, and how long one may leave its response unread.
//!
//! How long a client may take to send a request is hyper's `header_read_timeout`.

use super::peer::ClientPeer;
use super::slots::{ClientSlots, HeldConnection};
use axum_server::accept::Accept;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Accepts each connection, for which one of whoever holds most may have to go: a queue would hold
/// descriptors, and whoever comes first could keep all others out.
#[derive(Clone, Debug)]
pub struct ConnectionGuard {
    slots: ClientSlots,
    write_timeout: Duration,
}

impl ConnectionGuard {
    /// Keeps `connections` at once; each must take bytes within `write_timeout`.
    pub fn new(connections: usize, write_timeout: Duration) -> Self {
        Self {
            slots: ClientSlots::new(connections),
            write_timeout,
        }
    }
}

impl<S> Accept<TcpStream, S> for ConnectionGuard {
    type Stream = GuardedStream;
    type Service = S;
    type Future = Ready<io::Result<(GuardedStream, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let peer = match ClientPeer::of(&stream) {
            Ok(peer) => peer,
            // It is gone already.
            Err(error) => return ready(Err(error)),
        };
        let Some(held) = self.slots.take(peer) else {
            tracing::warn!("closed a connection: too many are being closed");
            return ready(Err(io::ErrorKind::ConnectionRefused.into()));
        };
        let write_timeout = self.write_timeout;
        ready(Ok((
            GuardedStream {
                stream,
                write_timeout,
                stalled: None,
                held,
            },
            service,
        )))
    }
}

/// A connection that holds a slot, and fails when its client stops reading or another client needs
/// the slot more.
#[derive(Debug)]
pub struct GuardedStream {
    stream: TcpStream,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    held: HeldConnection,
}

impl GuardedStream {
    /// Starts the clock when a write must wait, and stops it when bytes went out.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        if self.held.poll_given_up(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let timeout = self.write_timeout;
        let clock = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        clock
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.held.poll_given_up(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.held.answered();
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.held.answered();
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
