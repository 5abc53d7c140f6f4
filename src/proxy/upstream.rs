//! Connections to endpoints: connect, and this worker's pool of idle ones.
//!
//! A connection is polled by whoever uses it, in the client's own task; an idle one is polled by
//! nobody. Sending a request therefore begins with a look for a close: at what the runtime knows of,
//! and for a request that could not be sent twice at what the kernel knows.
//!
//! Bounds: [`IDLE_PER_ENDPOINT`] idle connections an endpoint and worker, each for at most the agent's
//! `pool_idle`; connections in use are bounded by the client connections, which carry one each.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use super::body::RequestBody;
use super::damper::{Damper, Link};
use super::io::{UpstreamIo, UpstreamStream};
use crate::routing::spec::EndpointAddress;

/// More idle connections than this to one endpoint are closed when returned.
pub(super) const IDLE_PER_ENDPOINT: usize = 256;

/// How often a connection that has woken itself is polled again at once.
const DRIVES: usize = 4;

type Driver = http1::Connection<TokioIo<UpstreamIo>, RequestBody>;

/// One HTTP/1.1 connection to an endpoint.
pub(super) struct Upstream {
    pub sender: http1::SendRequest<RequestBody>,
    /// `None` once it has returned. Dropping it gives back a request that it had not begun.
    driver: Option<Driver>,
    link: Link,
    probe: Rc<Cell<bool>>,
    /// Whether a request has gone over it before: only then can it be stale.
    pub reused: bool,
    idle_since: Instant,
    pool_idle: Duration,
}

impl Upstream {
    /// Moves bytes both ways. `true` once the connection has ended.
    /// hyper's promise: whatever is said about the response or body is said inside this call.
    pub fn drive(&mut self, damper: &Damper) -> bool {
        for _ in 0..DRIVES {
            damper.clear();
            if self.poll() {
                return true;
            }
            if !damper.clear() {
                return false;
            }
        }
        // There is more to do, and others wait: come back.
        damper.wake();
        false
    }

    fn poll(&mut self) -> bool {
        let cx = &mut Context::from_waker(self.link.waker());
        // An error here has reached the response or its body already.
        if self.driver.as_mut().is_some_and(|driver| Pin::new(driver).poll(cx).is_ready()) {
            self.driver = None;
        }
        self.driver.is_none()
    }

    /// Whether it can carry another request, as far as is known.
    fn is_ready(&mut self, damper: &Damper) -> bool {
        // Most often the drive that ended the body made it ready too.
        self.sender.is_ready() || (!self.drive(damper) && self.sender.is_ready())
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("connect: {0}")]
    Io(#[from] io::Error),
    #[error("connect timed out")]
    TimedOut,
    #[error("handshake: {0}")]
    Handshake(hyper::Error),
}

pub(super) async fn connect(
    address: &EndpointAddress,
    timeout: Duration,
    pool_idle: Duration,
) -> Result<Box<Upstream>, ConnectError> {
    let stream = tokio::time::timeout(timeout, open(address)).await.map_err(|_| ConnectError::TimedOut)??;
    let probe = Rc::new(Cell::new(false));
    let io = TokioIo::new(UpstreamIo::new(stream, probe.clone()));
    let (sender, driver) = http1::Builder::new().handshake(io).await.map_err(ConnectError::Handshake)?;
    let idle_since = Instant::now();
    Ok(Box::new(Upstream {
        sender,
        driver: Some(driver),
        link: Link::new(),
        probe,
        reused: false,
        idle_since,
        pool_idle,
    }))
}

async fn open(address: &EndpointAddress) -> io::Result<UpstreamStream> {
    match address {
        EndpointAddress::Http { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(UpstreamStream::Tcp(stream))
        }
        EndpointAddress::Unix(path) => Ok(UpstreamStream::Unix(UnixStream::connect(path).await?)),
    }
}

/// One endpoint's connections on this worker: the idle ones, newest last, so that the warmest is
/// used first and the rest may age out.
#[derive(Default)]
pub(super) struct Pool {
    #[allow(clippy::vec_box, reason = "a lease moves the pointer, not the kilobyte behind it")]
    idle: RefCell<Vec<Box<Upstream>>>,
    in_use: Cell<usize>,
}

impl Pool {
    pub fn in_use(&self) -> usize {
        self.in_use.get()
    }

    /// An idle connection, if there is one. Whether it still lives shows when a request is sent: hyper
    /// looks for a close first, and gives the request back unsent. With `probe` it asks the kernel.
    pub fn take(self: &Rc<Self>, damper: &Damper, probe: bool, now: Instant) -> Option<Lease> {
        let upstream = self.idle.borrow_mut().pop()?;
        if now.duration_since(upstream.idle_since) >= upstream.pool_idle {
            // The warmest is too old already, so all are.
            self.idle.borrow_mut().clear();
            return None;
        }
        upstream.probe.set(probe);
        Some(Lease::new(self.clone(), upstream, damper))
    }
}

/// A connection in use. Dropping it closes the connection; [`Lease::give_back`] keeps it.
pub(super) struct Lease {
    pool: Rc<Pool>,
    upstream: Option<Box<Upstream>>,
}

impl Lease {
    pub fn new(pool: Rc<Pool>, upstream: Box<Upstream>, damper: &Damper) -> Self {
        upstream.link.attach(damper);
        pool.in_use.set(pool.in_use.get() + 1);
        Self { pool, upstream: Some(upstream) }
    }

    pub fn upstream(&mut self) -> &mut Upstream {
        self.upstream.as_mut().expect("held until given back, which consumes the lease")
    }

    /// Back to the pool, if it can carry another request.
    pub fn give_back(mut self, damper: &Damper, now: Instant) {
        let Some(mut upstream) = self.upstream.take() else { return };
        let mut idle = self.pool.idle.borrow_mut();
        let ready = upstream.is_ready(damper);
        // What it woke itself for is for the next drive, which is the next exchange's.
        damper.clear();
        if ready && idle.len() < IDLE_PER_ENDPOINT {
            upstream.link.detach();
            upstream.idle_since = now;
            upstream.reused = true;
            idle.push(upstream);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.in_use.set(self.pool.in_use.get() - 1);
    }
}

/// This worker's pools, by endpoint.
#[derive(Default)]
pub(super) struct Pools(RefCell<HashMap<u64, Rc<Pool>, BuildHasherDefault<Identity>>>);

/// An endpoint's id is a hash already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn write(&mut self, _: &[u8]) {}
    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

impl Pools {
    pub fn of(&self, endpoint: u64) -> Rc<Pool> {
        self.0.borrow_mut().entry(endpoint).or_default().clone()
    }

    /// Closes what has been idle for too long, and what the endpoint has closed.
    pub fn sweep(&self, now: Instant) {
        self.0.borrow_mut().retain(|_, pool| {
            let mut idle = pool.idle.borrow_mut();
            idle.retain_mut(|u| now.duration_since(u.idle_since) < u.pool_idle && !u.poll());
            !idle.is_empty() || pool.in_use() > 0 || Rc::strong_count(pool) > 1
        });
    }
}
