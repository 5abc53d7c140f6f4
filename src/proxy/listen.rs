//! Accepting: one thread for all listeners, which hands each connection to the worker that has the
//! fewest. A few long-lived connections thus never pile up on one worker.
//!
//! Bounds: at `max_connections`, and where only the reserve of descriptors is left, nothing is accepted and clients
//! wait in the kernel's queue of `accept_backlog` (a listener that waits for a client just then takes it still: one
//! each may be over); an address that has its `connections_per_address` gets no more: a new one is closed without a
//! word. A full worker inbox makes the acceptor wait too.

mod acceptor;
mod addresses;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, oneshot, watch};

use super::worker::{self, Shared};
use crate::routing::ids::EnvironmentId;
use crate::tls::reload::Cell;
use crate::tls::server::Server;
use acceptor::{Way, accept_all};
pub(super) use addresses::{Addresses, Counted};

/// Connections that the kernel completes before anything is accepted.
const BACKLOG: i32 = 4096;

/// A socket that listens; nothing is accepted yet.
pub struct Bound {
    listener: std::net::TcpListener,
    configured: SocketAddr,
    pub address: SocketAddr,
    serves: Arc<ArcSwap<Serves>>,
}

/// What the connections of a listener are for.
#[derive(Clone)]
pub struct Serves {
    pub environment: EnvironmentId,
    /// Beside HTTP/1.1.
    pub http2: bool,
    /// `None`: what is spoken is in clear.
    pub tls: Option<Arc<Cell<Server>>>,
}

/// Binds `address`. Port 0 takes a free one; see [`Bound::address`].
///
/// `serves` may be swapped later: it holds for connections accepted from then on.
pub fn bind(address: SocketAddr, serves: Arc<ArcSwap<Serves>>) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener: std::net::TcpListener = socket.into();
    Ok(Bound { configured: address, address: listener.local_addr()?, listener, serves })
}

/// Takes a socket that listens already, in the place of `configured`.
pub fn adopt(socket: OwnedFd, configured: SocketAddr, serves: Arc<ArcSwap<Serves>>) -> io::Result<Bound> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(Bound { configured, address: listener.local_addr()?, listener, serves })
}

/// The running data plane.
pub struct DataPlane {
    acceptor: Acceptor,
    /// Dropped to end accepting.
    accepting: Option<oneshot::Sender<()>>,
    stop: watch::Sender<Option<Instant>>,
    acceptor_thread: Option<JoinHandle<()>>,
    workers: Vec<JoinHandle<()>>,
}

/// Tells the acceptor what to listen on.
#[derive(Clone)]
pub struct Acceptor(mpsc::Sender<Command>);

enum Command {
    Listen(Bound),
    /// Stop accepting; what is established lives on.
    Close(SocketAddr, oneshot::Sender<()>),
    Share(oneshot::Sender<io::Result<Vec<SharedSocket>>>),
}

/// A listening socket that another process may accept on as well.
pub struct SharedSocket {
    /// As in the file: port 0 is not the one that it has.
    pub configured: SocketAddr,
    pub socket: OwnedFd,
}

/// Starts the workers and the acceptor, which listens on nothing yet.
pub fn start(workers: usize, shared: Arc<Shared>) -> io::Result<DataPlane> {
    let (stop, stopped) = watch::channel(None);
    let mut inboxes = Vec::new();
    let mut threads = Vec::new();
    for index in 0..workers {
        let (inbox, thread) = worker::spawn(index, shared.clone(), stopped.clone())?;
        inboxes.push(inbox);
        threads.push(thread);
    }
    let (commands, received) = mpsc::channel(1);
    let (accepting, closed) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let accept = accept_all(Way { inboxes: inboxes.into(), shared }, received, closed);
    let acceptor_thread =
        std::thread::Builder::new().name("acceptor".into()).spawn(move || runtime.block_on(accept))?;
    Ok(DataPlane {
        acceptor: Acceptor(commands),
        accepting: Some(accepting),
        stop,
        acceptor_thread: Some(acceptor_thread),
        workers: threads,
    })
}

impl Acceptor {
    pub async fn listen(&self, bound: Bound) {
        // The acceptor ends only with the plane.
        let _ = self.0.send(Command::Listen(bound)).await;
    }

    /// Stops accepting on `address`; returns when its socket is closed.
    pub async fn close(&self, address: SocketAddr) {
        let (done, closed) = oneshot::channel();
        if self.0.send(Command::Close(address, done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

impl DataPlane {
    pub fn acceptor(&self) -> Acceptor {
        self.acceptor.clone()
    }

    /// Accepts on these sockets, too. Not for a thread that runs a runtime.
    pub fn listen(&self, listeners: Vec<Bound>) {
        for bound in listeners {
            // The acceptor ends only with the plane.
            let _ = self.acceptor.0.blocking_send(Command::Listen(bound));
        }
    }

    /// The sockets that are listened on, for another process. Not for a thread that runs a runtime.
    pub fn share(&self) -> io::Result<Vec<SharedSocket>> {
        let (give, given) = oneshot::channel();
        let _ = self.acceptor.0.blocking_send(Command::Share(give));
        given.blocking_recv().unwrap_or_else(|_| Err(io::Error::other("the acceptor has ended")))
    }

    /// Ends accepting, once who was connected by then is with a worker. The sockets are closed when this returns.
    pub fn close(&mut self) {
        self.accepting = None;
        if let Some(thread) = self.acceptor_thread.take() {
            // A panic has been reported by the hook; the others still drain.
            let _ = thread.join();
        }
    }

    /// Lets exchanges in flight end until `deadline`; may be called again to move it.
    pub fn drain(&self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
    }

    /// Every worker has ended.
    pub fn is_drained(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.drain(Instant::now());
    }
}
