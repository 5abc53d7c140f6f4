//! The task that drives an HTTP/2 connection, and finds out when it leads nowhere any more.
//!
//! While exchanges wait and nothing is heard for [`SILENT_TICKS`], the endpoint is sent a PING; one more tick
//! without a byte, and the connection is dropped, which breaks the exchanges on it. Common gRPC servers close a
//! connection that is pinged more than every five minutes without data of theirs in between, so a silence that
//! an answered PING has shown to be a quiet one is left alone for longer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::{Ping, PingPong};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::connection::{Link, Wire};

const TICK: Duration = Duration::from_secs(10);
/// Ticks without a byte before the first PING.
const SILENT_TICKS: u32 = 2;
/// The same after a PING that was answered, and nothing else since.
const QUIET_TICKS: u32 = 31;

/// Runs until the connection ends.
pub(super) async fn drive(mut connection: h2::client::Connection<Wire, Bytes>, link: Rc<Link>) {
    let Some(pings) = connection.ping_pong() else { return };
    let mut keepalive = KeepAlive { link, pings, silent: 0, patience: SILENT_TICKS, asked: false };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = pin!(connection);
    poll_fn(|cx| match connection.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(ended),
        Poll::Pending => keepalive.poll_silence(&mut ticks, cx).map(Ok),
    })
    .await
    .unwrap_or_else(|error| tracing::debug!(%error, "an HTTP/2 connection to an endpoint broke"));
}

struct KeepAlive {
    link: Rc<Link>,
    pings: PingPong,
    /// Ticks since something was heard.
    silent: u32,
    /// How many are borne before a PING.
    patience: u32,
    /// A PING has no answer yet.
    asked: bool,
}

impl KeepAlive {
    /// Ready when the endpoint is not there any more.
    fn poll_silence(&mut self, ticks: &mut Interval, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(pong) = self.pings.poll_pong(cx)
            && pong.is_ok()
        {
            // Alive, and with nothing to say: its answer does not count as such.
            self.link.heard.set(false);
            (self.silent, self.patience, self.asked) = (0, QUIET_TICKS, false);
        }
        while ticks.poll_tick(cx).is_ready() {
            if self.link.heard.take() || self.link.streams.get() == 0 {
                (self.silent, self.patience) = (0, SILENT_TICKS);
            } else if self.asked {
                tracing::warn!("an endpoint's HTTP/2 connection answers no ping: it is given up");
                return Poll::Ready(());
            } else {
                self.silent += 1;
            }
            if self.silent >= self.patience && !self.asked {
                self.asked = self.pings.send_ping(Ping::opaque()).is_ok();
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
