//! This worker's pools of connections, by endpoint.
//!
//! An idle HTTP/1.1 connection is polled by nobody. Sending a request over it therefore begins with a look for a
//! close: at what the runtime knows of, and for a request that could not be sent twice at what the kernel
//! knows.
//!
//! Bounds: [`IDLE_PER_ENDPOINT`] idle connections an endpoint and worker, each for at most the agent's
//! `pool_idle`; connections in use are bounded by the client connections, which carry one each. Those of HTTP/2 are
//! bounded by [`Connections`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::upstream::{Connections, Http1, Upstream};
use crate::routing::spec::EndpointAddress;
use crate::tls::client::Failure;

/// More idle connections than this to one endpoint are closed when returned.
const IDLE_PER_ENDPOINT: usize = 256;

/// One endpoint's connections on this worker: the idle ones of HTTP/1.1, newest last, so that the warmest is
/// used first and the rest may age out; and those of HTTP/2, busy or not.
#[derive(Default)]
pub(super) struct Pool {
    #[allow(clippy::vec_box, reason = "a lease moves the pointer, not the connection behind it")]
    idle: RefCell<Vec<Box<Http1>>>,
    pub http2: Rc<Connections>,
    in_use: Cell<usize>,
    /// When the log was last told why there is no TLS.
    told: Cell<Option<Instant>>,
}

/// The log is told once in so long, an endpoint and worker.
const TELL_EVERY: Duration = Duration::from_secs(60);

impl Pool {
    /// Why there is no TLS with the endpoint, for operators.
    pub fn tell_of_tls(&self, endpoint: &EndpointAddress, why: &Failure) {
        let now = Instant::now();
        if self.was_told(now) {
            return tracing::debug!(%endpoint, %why, "no TLS with an endpoint");
        }
        self.told.set(Some(now));
        tracing::warn!(%endpoint, %why, "no TLS with an endpoint; said once a minute");
    }

    fn was_told(&self, now: Instant) -> bool {
        self.told.get().is_some_and(|told| now.saturating_duration_since(told) < TELL_EVERY)
    }

    pub fn in_use(&self) -> usize {
        self.in_use.get()
    }

    /// An idle connection, if there is one. Whether it still lives shows when a request is sent.
    pub fn take(self: &Rc<Self>, now: Instant) -> Option<Lease> {
        let upstream = self.idle.borrow_mut().pop()?;
        if upstream.is_too_old(now) {
            // The warmest is too old already, so all are.
            self.idle.borrow_mut().clear();
            return None;
        }
        Some(Lease::new(self.clone(), Upstream::Http1(upstream)))
    }
}

/// A connection, or a stream of one, in use. Dropping it closes that; [`Lease::give_back`] keeps the connection.
pub(super) struct Lease {
    pool: Rc<Pool>,
    upstream: Option<Upstream>,
}

impl Lease {
    pub fn new(pool: Rc<Pool>, upstream: Upstream) -> Self {
        pool.in_use.set(pool.in_use.get() + 1);
        Self { pool, upstream: Some(upstream) }
    }

    pub fn upstream(&mut self) -> &mut Upstream {
        self.upstream.as_mut().expect("held until given back, which consumes the lease")
    }

    pub fn upstream_ref(&self) -> &Upstream {
        self.upstream.as_ref().expect("held until given back, which consumes the lease")
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Back to the pool, if it can carry another request. A stream carries one.
    pub fn give_back(mut self, now: Instant) {
        let Some(Upstream::Http1(mut upstream)) = self.upstream.take() else { return };
        let mut idle = self.pool.idle.borrow_mut();
        if upstream.rest(now) && idle.len() < IDLE_PER_ENDPOINT {
            idle.push(upstream);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.in_use.set(self.pool.in_use.get() - 1);
    }
}

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
            idle.retain_mut(|upstream| !upstream.is_too_old(now) && upstream.is_quiet());
            pool.http2.sweep(now);
            // One that has nothing but the memory of what the log was told keeps that.
            let is_empty = idle.is_empty() && pool.http2.is_empty() && !pool.was_told(now);
            !is_empty || pool.in_use() > 0 || Rc::strong_count(pool) > 1 || Rc::strong_count(&pool.http2) > 1
        });
    }
}
