//! One client connection: after its TLS [`handshake`], where TLS is spoken, its protocol is found out, and then
//! [`http1`] or [`http2`] serves it to its end, on a [`stream`] that is plain or not.
//!
//! What holds for the connection is a [`Client`]; what the parts of one exchange (socket, service, bodies) tell
//! each other is a [`ClientConn`]. HTTP/1.1 has one of each and uses it again and again; under HTTP/2 every
//! stream has a `ClientConn` of its own.
//!
//! Each phase sets a deadline; a connection has one timer, which is armed for the earliest deadline it has seen
//! and looks again when it fires. In steady traffic no request touches the timer at all.

mod handshake;
mod http1;
mod http2;
mod opening;
mod stream;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::error::raw_reply;
use super::headers::Forwarded;
use super::interim::Interim;
use super::share::{REQUEST, charge};
use super::trust;
use super::tunnel::Tunnel;
use super::worker::{ProxyOptions, Worker};
use crate::routing::ids::EnvironmentId;
use crate::routing::networks::Networks;
use crate::routing::table::ClientCertificate;
use crate::telemetry::counters::ErrorCode;
use crate::tls::certificate::Holder;

pub(super) use http1::{Date, Wire};
pub use http2::Floods;
pub(super) use http2::Received;
pub(super) use opening::Opened;
use opening::Opening;
pub(super) use stream::ClientStream;

/// How long a stop leaves a connection open that has no exchange. A client that uses it often has a request under way
/// just then, which is answered with `Connection: close`; closed at once, it would be lost.
const LINGER: Duration = Duration::from_millis(500);

/// A client's connection, whatever is spoken on it. One thread, so cells do.
pub(super) struct Client {
    pub worker: Rc<Worker>,
    pub environment: EnvironmentId,
    pub peer: SocketAddr,
    /// Knows whether the peer is a proxy whose word on its clients is taken, by the list beneath.
    pub forwarded: Forwarded,
    trusted_by: RefCell<Arc<Networks>>,
    /// Whether it speaks TLS.
    pub tls: bool,
    certificate: OnceCell<Box<ClientCertificate>>,
    stopping: Cell<bool>,
    /// The connection's task.
    task: Task,
}

impl Client {
    pub fn new(worker: Rc<Worker>, environment: EnvironmentId, peer: SocketAddr, tls: bool) -> Rc<Self> {
        let trusted_by = worker.snapshot().options.trusted_proxies.clone();
        let forwarded = Forwarded::new(peer.ip(), trusted_by.contain(peer.ip()), tls);
        let (certificate, stopping, task) = (OnceCell::new(), Cell::new(false), Task::default());
        let trusted_by = RefCell::new(trusted_by);
        Rc::new(Self { worker, environment, peer, trusted_by, forwarded, tls, certificate, stopping, task })
    }

    /// Who it is, by the certificate that it has shown and that was verified.
    fn identify(&self, holder: Holder) {
        if let Ok(field) = HeaderValue::try_from(holder.element()) {
            self.forwarded.set_certificate(field);
        }
        let san = holder.san().map(str::to_owned);
        let known = ClientCertificate { subject: holder.certificate.subject, san, fingerprint: holder.fingerprint };
        let _ = self.certificate.set(Box::new(known));
    }

    /// The one that it has shown and that was verified.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.certificate.get().map(|known| &**known)
    }

    /// Finish what is in flight, then close.
    pub fn stop(&self) {
        self.stopping.set(true);
        self.task.wake();
    }
}

/// How to wake a task that polls again and again.
#[derive(Default)]
struct Task(RefCell<Option<Waker>>);

impl Task {
    fn remember(&self, waker: &Waker) {
        let mut known = self.0.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.0.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// What the parts of one exchange with a client tell each other. One task, so cells do.
pub(super) struct ClientConn {
    client: Rc<Client>,
    /// It is one stream among others.
    pub http2: bool,
    /// From a whole request head to the end of the response body.
    busy: Cell<bool>,
    deadline: Cell<Instant>,
    /// No wait goes beyond this, where the whole exchange has a time-out.
    limit: Cell<Option<Instant>>,
    /// The time-out of a wait without progress in this exchange.
    patience: Cell<Duration>,
    /// The deadline has passed; whoever waits takes this and gives up.
    expired: Cell<bool>,
    /// When whoever waits wants to be polled again, whatever the deadline; and whether that moment came.
    alarm: Cell<Option<Instant>>,
    rang: Cell<bool>,
    /// How long the connection may be idle afterwards; as of the last request.
    keep_alive: Cell<Duration>,
    pub interim: Interim,
    /// Whom the request is from.
    address: Cell<IpAddr>,
    /// How large the request's body may be, where it has one.
    pub max_body_bytes: Cell<u64>,
    /// The connection is to end with this exchange.
    pub close_after: Cell<bool>,
    /// Why the request body could not be sent whole.
    pub request_fault: Cell<Option<ErrorCode>>,
    /// The exchange waits for the client's own body, not for the endpoint.
    pub awaits_client: Cell<bool>,
    /// An exchange that has switched protocols, until the connection is its own. Whoever serves the connection takes
    /// it in any case, for it holds this.
    pub tunnel: Cell<Option<Box<Tunnel>>>,
    started: Cell<Instant>,
    /// When a body moved on, or the exchange began.
    moved: Cell<Instant>,
    /// When the last exchange ended.
    ended: Cell<Instant>,
}

/// An exchange knows whose it is.
impl Deref for ClientConn {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl ClientConn {
    /// Before its first exchange, which has until `deadline` to begin.
    fn new(client: Rc<Client>, http2: bool, now: Instant, deadline: Instant, options: &ProxyOptions) -> Rc<Self> {
        let address = Cell::new(client.peer.ip());
        Rc::new(Self {
            client,
            http2,
            busy: Cell::new(false),
            deadline: Cell::new(deadline),
            limit: Cell::new(None),
            patience: Cell::new(options.head_timeout),
            expired: Cell::new(false),
            alarm: Cell::new(None),
            rang: Cell::new(false),
            keep_alive: Cell::new(options.keep_alive_timeout),
            interim: Interim::default(),
            address,
            max_body_bytes: Cell::new(0),
            close_after: Cell::new(false),
            request_fault: Cell::new(None),
            awaits_client: Cell::new(false),
            tunnel: Cell::default(),
            started: Cell::new(now),
            moved: Cell::new(now),
            ended: Cell::new(now),
        })
    }

    pub fn begin_exchange(&self, now: Instant, options: &ProxyOptions) {
        charge(REQUEST);
        self.busy.set(true);
        self.started.set(now);
        self.moved.set(now);
        self.interim.reset();
        self.request_fault.set(None);
        self.awaits_client.set(false);
        self.keep_alive.set(options.keep_alive_timeout);
        self.set_alarm(None);
        self.limit.set(None);
        self.wait(now, options.head_timeout);
    }

    /// Finds out whom the request is from, and takes out what it has no say in.
    pub fn locate(&self, headers: &mut HeaderMap, options: &ProxyOptions) {
        let networks = &options.trusted_proxies;
        if !Arc::ptr_eq(&self.trusted_by.borrow(), networks) {
            self.forwarded.set_trusted(networks.contain(self.peer.ip()));
            self.trusted_by.replace(networks.clone());
            self.address.set(self.peer.ip());
        }
        self.forwarded.strip(headers);
        if self.forwarded.is_trusted() {
            self.address.set(trust::client(self.peer.ip(), networks, headers));
        }
    }

    /// Whom the request is from: the peer, or whom a trusted one names.
    pub fn address(&self) -> IpAddr {
        self.address.get()
    }

    /// The exchange is to be over by then.
    pub fn set_limit(&self, limit: Option<Instant>) {
        self.limit.set(limit);
    }

    /// Whether the time of the whole exchange is up; a clock is read only where it has one.
    pub fn is_over_limit(&self) -> bool {
        self.limit.get().is_some_and(|limit| limit <= Instant::now())
    }

    /// Whether most of that time was over before the last progress, so that it says nothing of the endpoint.
    pub fn was_late(&self) -> bool {
        let (Some(limit), started) = (self.limit.get(), self.started.get()) else { return false };
        limit.saturating_duration_since(self.moved.get()) * 2 < limit.saturating_duration_since(started)
    }

    /// From now on, give up after `patience` without progress.
    pub fn wait(&self, now: Instant, patience: Duration) {
        self.patience.set(patience);
        let deadline = now + patience;
        self.deadline.set(self.limit.get().map_or(deadline, |limit| limit.min(deadline)));
        // A deadline that passed in this very poll was the last wait's, but for that of the whole exchange.
        self.expired.set(self.limit.get().is_some_and(|limit| limit <= now));
    }

    /// A body moved on.
    pub fn progress(&self) {
        self.progress_at(Instant::now());
    }

    pub fn progress_at(&self, now: Instant) {
        self.moved.set(now);
        self.wait(now, self.patience.get());
    }

    /// Asks to be polled at that moment; unlike the deadline it is moved by nobody else, and ends nothing by itself.
    pub fn set_alarm(&self, at: Option<Instant>) {
        self.alarm.set(at);
        self.rang.set(false);
    }

    /// Whether the alarm's moment came.
    pub fn take_alarm(&self) -> bool {
        self.rang.replace(false)
    }

    /// When the connection's timer has to look at this exchange.
    fn next_look(&self) -> Instant {
        self.alarm.get().map_or(self.deadline.get(), |alarm| alarm.min(self.deadline.get()))
    }

    /// The timer looks: notes what is due, and answers whether anything is.
    fn look(&self, now: Instant) -> bool {
        let is_over = now >= self.deadline.get();
        let rings = self.alarm.get().is_some_and(|alarm| now >= alarm);
        if is_over {
            self.expired.set(true);
        }
        if rings {
            self.alarm.set(None);
            self.rang.set(true);
        }
        is_over || rings
    }

    /// The moment of the request's head.
    pub fn exchange_start(&self) -> Instant {
        self.started.get()
    }

    pub fn end_exchange(&self, now: Instant) {
        self.busy.set(false);
        self.ended.set(now);
        self.set_alarm(None);
        self.limit.set(None);
        // The client has as long for what is still buffered as it had for the rest.
        self.wait(now, self.patience.get());
    }

    /// Whether the wait is over; whoever asks deals with it.
    pub fn take_expired(&self) -> bool {
        self.expired.replace(false)
    }
}

/// What may be spoken on a connection.
pub(super) struct Speaks {
    /// Beside HTTP/1.1. Under TLS it is agreed on in the handshake.
    pub http2: bool,
    pub tls: Option<Arc<ServerConfig>>,
}

/// Serves one connection to its end.
pub(super) async fn run(stream: TcpStream, client: Rc<Client>, speaks: Speaks) {
    let options = client.worker.snapshot().options.clone();
    // The first time-out counts from accept, so that a silent client is not held for longer.
    let patience = if client.tls { options.handshake_timeout } else { options.head_timeout };
    let mut timer = pin!(tokio::time::sleep_until((Instant::now() + patience).into()));
    let (mut stream, http2) = match speaks.tls {
        None => (ClientStream::Tcp(stream), speaks.http2),
        Some(config) => {
            // In a place of its own, so that the connections without it do not hold its size.
            let handshake = Box::pin(handshake::secure(stream, config, &client, timer.as_mut()));
            let Some(secured) = handshake.await else { return };
            timer.as_mut().reset((Instant::now() + options.head_timeout).into());
            (ClientStream::Tls(secured.stream), secured.http2)
        }
    };
    drop(options);
    let opening = match http2 {
        true => opening::read(&mut stream, &client, timer.as_mut()).await,
        false => Opening::Http1(Vec::new()),
    };
    match opening {
        // HTTP/2 was agreed on, and this is something else.
        Opening::Http1(_) if http2 && client.tls => {}
        Opening::Http1(read) => http1::run(Opened::new(stream, read), client, timer).await,
        // In a place of its own, too.
        Opening::Http2(read) => Box::pin(http2::run(Opened::new(stream, read), client, timer)).await,
        Opening::TimedOut => refuse_late_head(&mut stream, &client),
        Opening::Closed => {}
    }
}

fn refuse_late_head(stream: &mut ClientStream, client: &Client) {
    client.worker.counters().error(ErrorCode::HeadTimeout);
    // Best effort: what the socket's buffer does not take at once is not worth a wait.
    stream.write_now(&raw_reply(ErrorCode::HeadTimeout, "the request head did not arrive in time"));
    stream.say_goodbye();
}
