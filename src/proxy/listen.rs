//! Accepting: one thread for all listeners, which hands each connection to the worker that has the
//! fewest. A few long-lived connections thus never pile up on one worker.
//!
//! Bounds: at `max_connections` nothing is accepted and clients wait in the kernel's queue of
//! [`BACKLOG`] (a listener that waits for a client just then takes it still: one each may be over);
//! a full worker inbox makes the acceptor wait too.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::worker::{self, Accepted, Inbox, Place, Shared};
use crate::routing::ids::EnvironmentId;
use crate::telemetry::counters::add;

/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 4096;
/// After an accept error such as EMFILE: descriptors may come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens; nothing is accepted yet.
pub struct Bound {
    listener: std::net::TcpListener,
    pub address: SocketAddr,
    serves: Arc<ArcSwap<Serves>>,
}

/// What the connections of a listener are for.
#[derive(Clone)]
pub struct Serves {
    pub environment: EnvironmentId,
    /// Beside HTTP/1.1.
    pub http2: bool,
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
    Ok(Bound { address: listener.local_addr()?, listener, serves })
}

/// The running data plane.
pub struct DataPlane {
    acceptor: Acceptor,
    stop: watch::Sender<Option<Instant>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// Tells the acceptor what to listen on.
#[derive(Clone)]
pub struct Acceptor(mpsc::Sender<Command>);

enum Command {
    Listen(Bound),
    /// Stop accepting; what is established lives on.
    Close(SocketAddr, oneshot::Sender<()>),
}

/// Starts the workers and the acceptor.
pub fn start(workers: usize, shared: Arc<Shared>, listeners: Vec<Bound>) -> io::Result<DataPlane> {
    let (stop, stopped) = watch::channel(None);
    let mut inboxes = Vec::new();
    let mut threads = Vec::new();
    for index in 0..workers {
        let (inbox, thread) = worker::spawn(index, shared.clone(), stopped.clone())?;
        inboxes.push(inbox);
        threads.push(thread);
    }
    let (commands, received) = mpsc::channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let accepting = accept_all(listeners, inboxes, shared.clone(), received, stopped);
    threads.push(std::thread::Builder::new().name("acceptor".into()).spawn(move || runtime.block_on(accepting))?);
    Ok(DataPlane { acceptor: Acceptor(commands), stop, threads })
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

    /// Stops accepting, lets exchanges in flight end until `deadline`, joins the threads.
    pub fn stop(mut self, deadline: Instant) {
        self.stop.send_replace(Some(deadline));
        for thread in self.threads.drain(..) {
            // A panic has been reported by the hook; the others still drain.
            let _ = thread.join();
        }
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.stop.send_replace(Some(Instant::now()));
    }
}

async fn accept_all(
    listeners: Vec<Bound>,
    inboxes: Vec<Inbox>,
    shared: Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
    mut stop: watch::Receiver<Option<Instant>>,
) {
    let spawn = |bound: Bound| (bound.address, tokio::spawn(accept(bound, inboxes.clone(), shared.clone())));
    let mut listening: HashMap<SocketAddr, tokio::task::JoinHandle<()>> = listeners.into_iter().map(spawn).collect();
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Listen(bound)) => {
                    listening.extend([spawn(bound)]);
                }
                Some(Command::Close(address, done)) => {
                    if let Some(task) = listening.remove(&address) {
                        task.abort();
                        let _ = task.await;
                    }
                    let _ = done.send(());
                }
                None => return,
            },
            _ = stop.changed() => return,
        }
    }
}

/// Accepts on one socket until aborted.
async fn accept(bound: Bound, inboxes: Vec<Inbox>, shared: Arc<Shared>) {
    let listener = match TcpListener::from_std(bound.listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, address = %bound.address, "could not watch a listener"),
    };
    loop {
        loop {
            // Registered before the look, so that no place that comes free meanwhile is missed.
            let room = shared.room.notified();
            if shared.open.load(Ordering::Relaxed) < shared.options.load().max_connections {
                break;
            }
            add(&shared.counters[0].client_held);
            room.await;
        }
        match listener.accept().await {
            Ok((stream, peer)) => hand_over(stream, peer, &bound.serves.load(), &inboxes, &shared).await,
            Err(error) if is_one_connection_s(&error) => {}
            Err(error) => {
                tracing::warn!(%error, address = %bound.address, "accept failed; trying again shortly");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The client was gone before we came; nothing is wrong with the listener.
fn is_one_connection_s(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

async fn hand_over(stream: TcpStream, peer: SocketAddr, serves: &Serves, inboxes: &[Inbox], shared: &Arc<Shared>) {
    // Out of this runtime, into the worker's. A socket that fails here is one that the client has left.
    let Ok(stream) = stream.set_nodelay(true).and_then(|()| stream.into_std()) else { return };
    let Some(inbox) = inboxes.iter().min_by_key(|inbox| inbox.load.load(Ordering::Relaxed)) else { return };
    add(&shared.counters[0].client_accepted);
    let place = Place::take(shared, &inbox.load);
    let accepted = Accepted { stream, peer, environment: serves.environment.clone(), http2: serves.http2 };
    // A worker that has gone (a panic outside a connection) drops the connection: the client sees a close.
    let _ = inbox.sender.send((accepted, place)).await;
}
