//! This worker's HTTP/2 connections to one endpoint. The first with room takes the next exchange, so that those
//! that are not needed any more fall idle.
//!
//! Bounds: [`MAX_CONNECTIONS`], opened one at a time; all who find no room wait for that one, or for a place that
//! comes free, as long as the agent's connect time-out. An idle one is closed after the agent's `pool_idle`.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::{Notify, watch};

use super::connection::{Connection, Place};
use super::{ConnectError, Dial};

const MAX_CONNECTIONS: usize = 256;

#[derive(Default)]
pub struct Connections {
    open: RefCell<Vec<Rc<Connection>>>,
    /// The connection that is being made.
    attempt: RefCell<Option<watch::Receiver<Attempt>>>,
    room: Rc<Notify>,
}

/// `None` until it is known how it ended.
type Attempt = Option<Result<(), ConnectError>>;

impl Connections {
    /// A place for an exchange. With `probe`, an idle connection is taken only when it has nothing to say.
    pub async fn place(self: &Rc<Self>, dial: Dial<'_>, probe: bool) -> Result<Place, ConnectError> {
        match self.take() {
            Some(place) if probe && place.has_unread() => {}
            Some(place) => return Ok(place),
            None => return self.wait(dial).await,
        }
        // Once for the runtime to notice, and once for the connection's task to read it.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        self.wait(dial).await
    }

    fn take(&self) -> Option<Place> {
        self.open.borrow().iter().find_map(Connection::place)
    }

    async fn wait(self: &Rc<Self>, dial: Dial<'_>) -> Result<Place, ConnectError> {
        let waiting = async {
            loop {
                // Before the look, so that no place that comes free meanwhile is missed.
                let room = self.room.notified();
                if let Some(place) = self.take() {
                    return Ok(place);
                }
                let Some(mut attempt) = self.attempt(dial) else {
                    room.await;
                    continue;
                };
                tokio::select! {
                    () = room => {}
                    ended = attempt.wait_for(Option::is_some) => match ended.map(|ended| ended.clone()) {
                        Ok(Some(Err(error))) => return Err(error),
                        Ok(_) => {}
                        // Its task is gone, with no word.
                        Err(_) => drop(self.attempt.take()),
                    },
                }
            }
        };
        dial.in_time(waiting).await
    }

    /// The attempt that runs, or a new one. `None` at the bound.
    fn attempt(self: &Rc<Self>, dial: Dial<'_>) -> Option<watch::Receiver<Attempt>> {
        let mut attempt = self.attempt.borrow_mut();
        if attempt.is_none() {
            self.open.borrow_mut().retain(|connection| !connection.is_spent());
            if self.open.borrow().len() >= MAX_CONNECTIONS {
                return None;
            }
            let (ended, running) = watch::channel(None);
            *attempt = Some(running);
            let (this, address, spec, clients) =
                (self.clone(), dial.address.clone(), dial.spec.clone(), dial.clients.clone());
            // A task of its own: he who asked for it may leave, and others wait for it.
            tokio::task::spawn_local(async move {
                let dial = Dial { address: &address, spec: &spec, clients: &clients };
                let opened = dial.in_time(Connection::open(dial, this.room.clone())).await;
                let opened = opened.map(|connection| this.open.borrow_mut().push(Rc::new(connection)));
                this.attempt.take();
                ended.send_replace(Some(opened));
            });
        }
        attempt.clone()
    }

    /// Lets go of what takes no more exchanges, and of what has been idle for too long.
    pub fn sweep(&self, now: Instant) {
        self.open.borrow_mut().retain(|connection| !connection.is_too_old(now) && !connection.is_spent());
    }

    pub fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }
}
