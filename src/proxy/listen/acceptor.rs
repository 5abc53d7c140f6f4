//! The acceptor's thread: a task for each socket.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::{Bound, Command, Serves, SharedSocket};
use crate::descriptors;
use crate::proxy::connection::Speaks;
use crate::proxy::worker::{Accepted, Inbox, Place, Shared};
use crate::telemetry::counters::add;

/// After an accept error such as EMFILE: descriptors may come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// So many that are in the kernel's queue when a listener closes are taken still.
const MAX_WAITING: usize = 4096;

/// Where accepted connections go.
#[derive(Clone)]
pub(super) struct Way {
    pub inboxes: Arc<[Inbox]>,
    pub shared: Arc<Shared>,
}

/// A socket that is accepted on by a task of its own.
struct Listening {
    configured: SocketAddr,
    listener: Arc<TcpListener>,
    /// Dropped to end the task.
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Listening {
    fn start(bound: Bound, way: Way) -> Option<(SocketAddr, Self)> {
        let Bound { listener, configured, address, serves } = bound;
        // Again, for a socket that listens already takes a new length too.
        let backlog = way.shared.options.load().accept_backlog;
        if let Err(error) = SockRef::from(&listener).listen(backlog) {
            tracing::warn!(%error, %address, backlog, "could not set the length of the accept queue");
        }
        let listener = TcpListener::from_std(listener)
            .inspect_err(|error| tracing::error!(%error, %address, "could not watch a listener"))
            .ok()?;
        let (listener, (stop, stopped)) = (Arc::new(listener), oneshot::channel());
        let task = tokio::spawn(accept(listener.clone(), address, serves, way, stopped));
        Some((address, Self { configured, listener, stop, task }))
    }

    async fn close(self) {
        drop((self.stop, self.listener));
        let _ = self.task.await;
    }

    fn share(&self) -> io::Result<SharedSocket> {
        Ok(SharedSocket { configured: self.configured, socket: self.listener.as_fd().try_clone_to_owned()? })
    }
}

pub(super) async fn accept_all(way: Way, mut commands: mpsc::Receiver<Command>, mut closed: oneshot::Receiver<()>) {
    let mut listening: HashMap<SocketAddr, Listening> = HashMap::new();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Listen(bound)) => listening.extend(Listening::start(bound, way.clone())),
                Some(Command::Close(address, done)) => {
                    if let Some(listening) = listening.remove(&address) {
                        listening.close().await;
                    }
                    let _ = done.send(());
                }
                Some(Command::Share(give)) => {
                    let _ = give.send(listening.values().map(Listening::share).collect());
                }
                None => break,
            },
            _ = &mut closed => break,
        }
    }
    for listening in listening.into_values() {
        listening.close().await;
    }
}

/// Accepts on one socket until told to stop.
async fn accept(
    listener: Arc<TcpListener>,
    address: SocketAddr,
    serves: Arc<ArcSwap<Serves>>,
    way: Way,
    mut stop: oneshot::Receiver<()>,
) {
    let mut is_crowded = false;
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => break,
            accepted = next(&listener, &way.shared, is_crowded) => accepted,
        };
        is_crowded = accepted.as_ref().is_ok_and(|(stream, _)| descriptors::is_reserved(stream));
        match accepted {
            // Out of this runtime, into the worker's. A socket that fails here is one that the client has left.
            Ok((stream, peer)) => {
                if let Ok(stream) = stream.into_std() {
                    way.hand_over(stream, peer, &serves.load()).await;
                }
            }
            Err(error) if is_one_connection_s(&error) => {}
            Err(error) => {
                tracing::warn!(%error, %address, "accept failed; trying again shortly");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // To whom the kernel has said that they are connected they are: closing the socket would break them. For whom there
    // is no room they stay in the queue, which the process that has taken over shares.
    for _ in 0..MAX_WAITING {
        if !way.shared.has_room() || !descriptors::has_room(&listener) {
            return;
        }
        let Some((stream, peer)) = take_waiting(&listener) else { return };
        way.hand_over(stream, peer, &serves.load()).await;
    }
}

/// `is_crowded`: the last one has got a descriptor that is not for clients.
async fn next(listener: &TcpListener, shared: &Shared, is_crowded: bool) -> io::Result<(TcpStream, SocketAddr)> {
    loop {
        // Registered before the look, so that no place that comes free meanwhile is missed.
        let room = shared.room.notified();
        let has_room = shared.has_room();
        if has_room && (!is_crowded || descriptors::has_room(&listener)) {
            return listener.accept().await;
        }
        add(&shared.counters[0].client_held);
        if has_room {
            // Descriptors come free in many ways, and nobody tells.
            tokio::time::sleep(ACCEPT_PAUSE).await;
        } else {
            room.await;
        }
    }
}

/// Asks the kernel itself: the runtime may not have heard of it yet.
fn take_waiting(listener: &TcpListener) -> Option<(std::net::TcpStream, SocketAddr)> {
    let (socket, peer) = SockRef::from(listener).accept().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket.into(), peer.as_socket()?))
}

/// The client was gone before we came; nothing is wrong with the listener.
fn is_one_connection_s(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

impl Way {
    async fn hand_over(&self, stream: std::net::TcpStream, peer: SocketAddr, serves: &Serves) {
        let Self { inboxes, shared } = self;
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let Some(inbox) = inboxes.iter().min_by_key(|inbox| inbox.load.load(Ordering::Relaxed)) else { return };
        let Some(place) = Place::take(shared, &inbox.load, peer.ip()) else {
            return add(&shared.counters[0].client_refused);
        };
        add(&shared.counters[0].client_accepted);
        let tls = serves.tls.as_ref().map(|tls| tls.load().config.clone());
        let speaks = Speaks { http2: serves.http2, tls };
        let accepted = Accepted { stream, peer, environment: serves.environment.clone(), speaks };
        // A worker that has gone (a panic outside a connection) drops the connection: the client sees a close.
        let _ = inbox.sender.send((accepted, place)).await;
    }
}
