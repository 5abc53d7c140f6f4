//! The old process's side: where another one asks.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::wire::{self, Wire};
use super::{PROMPTLY, PROTOCOL, Predecessor, TakeoverError, Word};

/// After an accept error such as EMFILE: descriptors may come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What the kernel takes as a socket's path, less its end.
const PATH_BYTES: usize = 107;

/// The socket's file. It goes with this, unless it is another process's by then.
pub struct Desk {
    path: PathBuf,
    inode: (u64, u64),
}

/// One process that asks to take over. Dropping it before the end breaks off.
pub struct Session {
    pub(super) wire: Wire,
    pub(super) pid: i32,
    _turn: Turn,
}

impl Desk {
    /// Listens on `path`, in the place of whoever did, and gives each process that asks to `asked`, one at a time.
    pub fn open(
        path: &Path,
        predecessor: Option<Predecessor>,
        asked: impl Fn(Session) + Send + 'static,
    ) -> io::Result<Self> {
        // Renamed into its place, so that there is no moment without one, and none with other permissions.
        // Of one length whatever the process's number, so that what one could open the next one can.
        let new = path.with_file_name(format!(".{:08x}", std::process::id()));
        if path.as_os_str().len().max(new.as_os_str().len()) > PATH_BYTES {
            let text = format!("a socket's path has at most {PATH_BYTES} bytes; name another by --takeover-socket");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let _ = std::fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        let placed = std::fs::set_permissions(&new, Permissions::from_mode(0o600))
            .and_then(|()| std::fs::metadata(&new))
            .and_then(|metadata| std::fs::rename(&new, path).map(|()| (metadata.dev(), metadata.ino())));
        let inode = placed.inspect_err(|_| drop(std::fs::remove_file(&new)))?;
        let clerk = Clerk { predecessor, taken: Arc::default() };
        let serve = move || {
            listener.incoming().for_each(|stream| match stream {
                Ok(stream) => clerk.admit(stream).into_iter().for_each(&asked),
                Err(_) => std::thread::sleep(ACCEPT_PAUSE),
            });
        };
        std::thread::Builder::new().name("takeover".into()).spawn(serve)?;
        Ok(Self { path: path.to_owned(), inode })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let there = std::fs::metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()));
        if there.is_ok_and(|there| there == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Who lets one process in at a time.
struct Clerk {
    predecessor: Option<Predecessor>,
    taken: Arc<AtomicBool>,
}

impl Clerk {
    fn admit(&self, stream: UnixStream) -> Option<Session> {
        let session = wire::peer(&stream).and_then(|pid| self.greet(Wire::new(stream), pid));
        session.inspect_err(|error| tracing::warn!(%error, "a process that asked to take over was turned away")).ok()
    }

    fn greet(&self, mut wire: Wire, pid: i32) -> Result<Session, TakeoverError> {
        let Word::Hello { protocol } = wire.hear(PROMPTLY)? else { return Err(TakeoverError::Unexpected) };
        let turn = Turn::take(&self.taken);
        let why = match (&self.predecessor, &turn) {
            _ if protocol != PROTOCOL => {
                format!("it speaks version {protocol} of the protocol, not {PROTOCOL}; restart")
            }
            (Some(before), _) if before.is_alive() => {
                format!("process {} is still finishing what it had in flight; try again when it has ended", before.pid)
            }
            (_, None) => "another process is taking over just now; at most two may run at a time".into(),
            (_, Some(_)) => String::new(),
        };
        match turn {
            Some(turn) if why.is_empty() => Ok(Session { wire, pid, _turn: turn }),
            _ => {
                wire.say(&Word::Refused(why.clone()), &[])?;
                Err(TakeoverError::Refused(why))
            }
        }
    }
}

/// Held by the one session that there may be.
struct Turn(Arc<AtomicBool>);

impl Turn {
    fn take(taken: &Arc<AtomicBool>) -> Option<Self> {
        (!taken.swap(true, Ordering::AcqRel)).then(|| Self(taken.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
