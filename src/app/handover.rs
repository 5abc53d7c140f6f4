//! Handing over to a process that takes this one's place, and taking over from one.
//!
//! The listening sockets are shared: both accept for a moment, so no client is refused. The store is one process's
//! at a time: the old one ends its control plane, whose state is then on the disk, and its data plane goes on with the
//! last table. If the new one fails before it serves, the old one takes its state up again, as at a start.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::stop::Patience;
use super::{ADMIN, Origin, Plane, Running, State};
use crate::control::service::Live;

/// What another process has to agree to while this one starts.
pub trait Handover {
    /// All that can be found wrong without the state is right. When this returns, the state is this process's.
    fn state(&mut self) -> anyhow::Result<()>;
    /// Everything is there but the accepting. When this returns, the other process does not come back unless this
    /// one fails.
    fn serving(&mut self) -> anyhow::Result<()>;
}

/// Nobody to ask.
impl Handover for () {
    fn state(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    fn serving(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A process whose state another one may take. It serves on, and nothing that it decides changes.
pub struct Released {
    plane: Plane,
    origin: Origin,
}

impl Running {
    /// What a process needs to listen in this one's place: each socket with its name and its address in the file.
    pub fn sockets(&self) -> anyhow::Result<Vec<(&'static str, SocketAddr, OwnedFd)>> {
        let shared = self.plane.data_plane.share()?;
        let mut sockets: Vec<_> = shared.into_iter().map(|one| ("listener", one.configured, one.socket)).collect();
        sockets.push((ADMIN, self.plane.admin_address, self.plane.admin.try_clone()?.into()));
        Ok(sockets)
    }

    /// Ends the control plane: its state is on the disk then, and free. `None`: it had ended by a panic before, and
    /// nothing was left but to stop.
    pub fn release(self, hurried: Patience<'_>) -> Option<Released> {
        let Self { plane, control_plane, ready, control, .. } = self;
        drop((ready, control));
        match control_plane.stop() {
            Some(origin) => Some(Released { plane, origin }),
            None => {
                plane.drain(false, hurried);
                None
            }
        }
    }
}

/// Between two tries to take the state back: who had it may need a moment to end.
const PAUSE: Duration = Duration::from_millis(500);

impl Released {
    /// Takes the state up again; tries until it is free. `None`: it was stopped meanwhile.
    pub fn resume(self, hurried: Patience<'_>) -> anyhow::Result<Option<Running>> {
        let Self { plane, origin } = self;
        loop {
            let live = Live { table: plane.shared.table.clone(), pins: plane.shared.pins.clone() };
            let error = match State::open(&origin.config, &plane.registry, Some(live)) {
                Ok(state) => return plane.control(origin, state).map(Some),
                Err(error) => error,
            };
            tracing::warn!("the state cannot be taken up again yet; serving on without: {error:#}");
            if hurried(PAUSE) {
                plane.drain(false, hurried);
                return Ok(None);
            }
        }
    }

    /// The other process serves: lets what is in flight end.
    pub fn drain(self, hurried: Patience<'_>) {
        self.plane.drain(false, hurried);
    }
}
