//! File descriptors: how many this process may have, and whether there are some for more connections.
//!
//! The kernel always gives the lowest number that is free. So a new descriptor tells by its number how many there
//! are: it is at a mark or beyond only when all below it are in use, whatever for. Nothing has to be counted, and
//! no count can be wrong.
//!
//! Of the limit a reserve is kept for the admin side, the store and the logs. Clients pause before they enter it,
//! connections to endpoints may have half of it. And since a client mostly needs a second one, to an endpoint, no more
//! than half of what is left is for clients.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// One for the whole process, as its descriptors are: from here on they are no more for clients, or for endpoints.
static CLIENTS_END: AtomicI32 = AtomicI32::new(RawFd::MAX);
static ENDPOINTS_END: AtomicI32 = AtomicI32::new(RawFd::MAX);

/// Raises the soft limit to the hard one, and says what it is then.
pub fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        if let Err(error) = raised {
            tracing::warn!(%error, ?current, ?maximum, "could not raise the limit of file descriptors");
        }
    }
    limit()
}

/// The soft limit.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Keeps `reserve` of them from clients; at most half of all.
pub fn set_reserve(reserve: usize) {
    let (clients, endpoints) = marks(limit(), reserve as u64);
    CLIENTS_END.store(clients, Ordering::Relaxed);
    ENDPOINTS_END.store(endpoints, Ordering::Relaxed);
}

fn marks(limit: u64, reserve: u64) -> (RawFd, RawFd) {
    let reserve = reserve.min(limit / 2);
    let mark = |left: u64| RawFd::try_from(limit - left).unwrap_or(RawFd::MAX);
    (mark(reserve), mark(reserve / 2))
}

/// How many client connections there are descriptors for, each with one to an endpoint, beside what this process
/// itself has open: the pollers of its threads, listeners, the store, logs.
pub fn connections(reserve: usize, workers: usize) -> usize {
    let (clients, _) = marks(limit(), reserve as u64);
    usize::try_from(clients).unwrap_or(0).saturating_sub(OWN + OWN_PER_WORKER * workers).max(2) / 2
}

const OWN: usize = 32;
const OWN_PER_WORKER: usize = 8;

/// Whether the descriptor of a new client is one of those that are kept.
pub fn is_reserved(client: &impl AsRawFd) -> bool {
    client.as_raw_fd() >= CLIENTS_END.load(Ordering::Relaxed)
}

/// Whether the next descriptor would be one for a client. Asks the kernel; `any` is one that is open.
pub fn has_room(any: &impl AsFd) -> bool {
    fcntl_dupfd_cloexec(any, 0).is_ok_and(|next| !is_reserved(&next))
}

/// Whether a new connection to an endpoint may keep its descriptor.
///
/// # Errors
/// As the kernel gives where there is none at all.
pub fn check(endpoint: &impl AsRawFd) -> io::Result<()> {
    if endpoint.as_raw_fd() < ENDPOINTS_END.load(Ordering::Relaxed) { Ok(()) } else { Err(Errno::MFILE.into()) }
}

/// Whether it is for want of descriptors.
pub fn is_shortage(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE))
}

/// Whether it is for want of something that is ours: descriptors, ports or memory.
pub fn is_ours(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    is_shortage(error) || matches!(code, Some(Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_left_alone() {
        assert_eq!(marks(1024, 64), (960, 992));
        assert_eq!(marks(64, 64), (32, 48));
        assert_eq!(marks(u64::MAX, 64), (RawFd::MAX, RawFd::MAX));
        assert!(connections(64, 2) >= 1);
    }

    #[test]
    fn a_shortage_is_known_by_its_code() {
        assert!(is_shortage(&Errno::MFILE.into()) && is_shortage(&Errno::NFILE.into()));
        assert!(!is_shortage(&Errno::CONNREFUSED.into()) && !is_shortage(&io::Error::other("x")));
    }
}
