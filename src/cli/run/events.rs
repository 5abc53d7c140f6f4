//! What a running instance waits for: signals, and processes that want its place.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::takeover::Session;

/// Long enough for the runtime to hear of a signal that was there before.
const GLANCE: Duration = Duration::from_millis(1);

pub(super) enum Event {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGUSR2.
    Upgrade,
    Takeover(Session),
}

/// Signals are noted from when this is armed.
pub(super) struct Events {
    runtime: Runtime,
    stop: StopSignals,
    /// Heard, and not yet told of as an event.
    stopped: bool,
    upgrade: Signal,
    /// One at a time: more are refused at the door.
    sessions: (mpsc::Sender<Session>, mpsc::Receiver<Session>),
}

struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Events {
    pub fn armed() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let stop =
            StopSignals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
        let upgrade = signal(SignalKind::user_defined2())?;
        drop(inside);
        Ok(Self { runtime, stop, stopped: false, upgrade, sessions: mpsc::channel(1) })
    }

    /// For the desk, which has a thread of its own.
    pub fn door(&self) -> impl Fn(Session) + Send + 'static {
        let sender = self.sessions.0.clone();
        // Full only where one waits already: dropping a session tells its process.
        move |session| drop(sender.try_send(session))
    }

    pub fn next(&mut self) -> Event {
        let Self { runtime, stop, stopped, upgrade, sessions } = self;
        if std::mem::take(stopped) {
            return Event::Stop;
        }
        runtime.block_on(async {
            tokio::select! {
                () = stop.next() => Event::Stop,
                _ = upgrade.recv() => Event::Upgrade,
                // Never closed: a sender is here.
                Some(session) = sessions.1.recv() => Event::Takeover(session),
            }
        })
    }

    /// Whether a stop was asked for; it is the next event nevertheless.
    pub fn stopped(&mut self) -> bool {
        self.stopped |= self.stops_within(GLANCE);
        self.stopped
    }

    /// Waits so long, and answers whether a stop was asked for meanwhile.
    pub fn stops_within(&mut self, wait: Duration) -> bool {
        let Self { runtime, stop, .. } = self;
        runtime.block_on(async { tokio::time::timeout(wait, stop.next()).await.is_ok() })
    }
}
