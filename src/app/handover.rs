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
    /// `None`: the control plane had ended by itself before, and there is nothing to go on from.
    origin: Option<Origin>,
}

impl Running {
    /// What a process needs to listen in this one's place: each socket with its name and its address in the file.
    pub fn sockets(&self) -> anyhow::Result<Vec<(&'static str, SocketAddr, OwnedFd)>> {
        let shared = self.plane.data_plane.share()?;
        let mut sockets: Vec<_> = shared.into_iter().map(|one| ("listener", one.configured, one.socket)).collect();
        sockets.push((ADMIN, self.plane.admin_address, self.plane.admin.try_clone()?.into()));
        Ok(sockets)
    }

    /// Ends the control plane: its state is on the disk then, and free.
    pub fn release(self) -> Released {
        let Self { plane, control_plane, ready, control, .. } = self;
        drop((ready, control));
        let origin = control_plane.stop();
        if origin.is_none() {
            tracing::error!("the control plane had ended before; the state is as it left it");
        }
        Released { plane, origin }
    }
}

/// Between two tries to take the state back: who had it may need a moment to end.
const PAUSE: Duration = Duration::from_millis(500);

impl Released {
    /// Takes the state up again; tries until it is free. Without an origin it serves on as it did before, by the last
    /// table. `None`: it was stopped meanwhile.
    pub fn resume(self, hurried: Patience<'_>) -> anyhow::Result<Option<Running>> {
        let Self { plane, origin } = self;
        let Some(origin) = origin else {
            tracing::error!("there is no control plane to go on with; serving by the last table until told to stop");
            while !hurried(PAUSE) {}
            plane.drain(false, hurried);
            return Ok(None);
        };
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

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::app;
    use crate::config::Config;

    #[test]
    fn a_process_whose_control_plane_has_ended_by_itself_can_be_taken_over_from_and_serves_on_if_not() {
        let ports = "listeners: [{ address: '127.0.0.1:0' }]\nadmin: { address: '127.0.0.1:0' }\nworkers: 1\n";
        let agent = "{ versions: { 1.0.0: { endpoints: ['http://127.0.0.1:1'] } }, stable: 1.0.0 }";
        let text = format!("{ports}state_dir: none\nagents: {{ bot: {agent} }}\n");
        let config = Config::parse("test.yaml", &text, &|_| None).expect("it is right");
        let mut running = app::start(config, None).expect("it starts");
        let address = running.listeners[0];
        // As after a panic: the thread ends without an origin.
        running.control_plane.thread = std::thread::spawn(|| None);
        let released = running.release();
        let mut waits = 0;
        let left = released.resume(&mut |wait| {
            waits += 1;
            if waits < 3 {
                TcpStream::connect(address).expect("it listens still");
            }
            std::thread::sleep(wait.min(Duration::from_millis(10)));
            waits >= 3
        });
        assert!(left.expect("no error").is_none() && waits >= 3);
        assert!(TcpStream::connect(address).is_err(), "told to stop, it has closed");
    }
}
