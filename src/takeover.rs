//! What two processes say to each other when one takes the other's place: lines of JSON over a Unix socket, the
//! listening sockets as descriptors beside one of them.
//!
//! | who | says | which means |
//! | --- | --- | --- |
//! | new | `hello` | asks, with the version of this protocol |
//! | old | `sockets`, or `refused` | the descriptors; it serves on as before |
//! | new | `ready` | the file is right and everything is bound |
//! | old | `state` | the store is closed, and the new one's; routing goes on by the last table |
//! | new | `serving` | all is there but the accepting |
//! | old | `yours` | it will not come back by itself |
//! | new | `accepting` | the old one closes its listeners, finishes what is in flight, and ends |
//!
//! Whoever breaks off before `yours` leaves the old one serving. From the `state` on the new one could go on alone, so
//! the old one says `refused` where it takes its place back; where it ends without a word it is dead, and the new one
//! serves. After `yours` the old one comes back only if the new one's end closes: it waits as long as that stands.
//! The connection stays open until the old process has ended: so long there are two, and a third is refused.
//!
//! Known limits, while the old process finishes what it has in flight: it writes no state any more, so a conversation
//! that it pins after `state`, as where the agent's answer names it, is not known to the new one, and begins there anew.
//! And the new one counts none of the old one's responses: a migration, or the next turn under `upgrade_at_turn` once
//! the grace since the request is over, may move a conversation that the old one still answers.
//!
//! Rules: the socket's file has mode 0600, and each side asks the kernel whose the other is: it must be of the same
//! user, or root. Bounds: a line of [`LINE_BYTES`], [`MAX_SOCKETS`] descriptors, one process at a time, and each wait
//! has an end, but the one after `yours`.

mod desk;
mod wire;

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use desk::{Desk, Session};
use wire::Wire;

const PROTOCOL: u32 = 1;
const LINE_BYTES: usize = 64 << 10;
/// As many listeners as a file may have, and the admin side.
const MAX_SOCKETS: usize = 65;

/// For an answer that needs no work.
const PROMPTLY: Duration = Duration::from_secs(10);
/// For reading a file, or a state, of any size on a busy machine.
const PATIENTLY: Duration = Duration::from_secs(60);

/// Whether this process has been asked to stop: asked again and again where it waits.
pub type Stopped<'a> = &'a mut dyn FnMut() -> bool;

/// A listening socket: its name, and the address that the file gives it.
pub type Named = (String, SocketAddr, OwnedFd);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Hello {
        protocol: u32,
    },
    Refused(String),
    /// In the order of the descriptors.
    Sockets(Vec<(String, SocketAddr)>),
    Ready,
    State,
    Serving,
    Yours,
    Accepting,
}

#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    #[error("the other process has gone")]
    Gone,
    #[error("the other process did not answer in time")]
    TimedOut,
    #[error("this process is asked to stop")]
    Stopped,
    #[error("refused: {0}")]
    Refused(String),
    #[error("the other process said something unexpected; is it another release? restart it instead")]
    Unexpected,
    #[error("the other process is of user {0}, and must be of this one's")]
    Stranger(u32),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The process whose place this one takes.
pub struct Predecessor {
    wire: Wire,
    pid: i32,
}

impl Predecessor {
    /// Asks the process that listens on `path`. `None`: there is none.
    pub fn find(path: &Path) -> Result<Option<Self>, TakeoverError> {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let pid = wire::peer(&stream)?;
        let mut wire = Wire::new(stream);
        wire.say(&Word::Hello { protocol: PROTOCOL }, &[])?;
        Ok(Some(Self { wire, pid }))
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The sockets that it listens on.
    pub fn sockets(&mut self) -> Result<Vec<Named>, TakeoverError> {
        let Word::Sockets(names) = self.wire.hear(PROMPTLY)? else { return Err(TakeoverError::Unexpected) };
        let sockets = self.wire.take_descriptors();
        if sockets.len() != names.len() {
            return Err(TakeoverError::Unexpected);
        }
        Ok(names.into_iter().zip(sockets).map(|((name, address), socket)| (name, address, socket)).collect())
    }

    /// When this returns, the state is this process's.
    pub fn take_state(&mut self) -> Result<(), TakeoverError> {
        self.wire.say(&Word::Ready, &[])?;
        self.wire.expect(PATIENTLY, &mut || false, |word| matches!(word, Word::State))
    }

    /// When this returns, the other process does not come back unless this one fails.
    pub fn say_serving(&mut self) -> Result<(), TakeoverError> {
        // What it said before it closed can be heard though nothing can be said to it any more.
        let _ = self.wire.say(&Word::Serving, &[]);
        match self.wire.expect(PROMPTLY, &mut || false, |word| matches!(word, Word::Yours)) {
            // Not given up, but dead: only this one is left.
            Err(TakeoverError::Gone) => Ok(()),
            heard => heard,
        }
    }

    pub fn say_accepting(&mut self) -> Result<(), TakeoverError> {
        self.wire.say(&Word::Accepting, &[])
    }

    /// Whether it is still there, finishing what is in flight.
    fn is_alive(&self) -> bool {
        self.wire.is_open()
    }
}

impl Session {
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Shows the sockets, and waits until the other process has use for the state.
    pub fn hand_on(
        &mut self,
        sockets: &[(&'static str, SocketAddr, OwnedFd)],
        stopped: Stopped<'_>,
    ) -> Result<(), TakeoverError> {
        let names = sockets.iter().map(|(name, address, _)| ((*name).to_owned(), *address)).collect();
        let descriptors: Vec<_> = sockets.iter().map(|(_, _, socket)| socket.as_fd()).collect();
        self.wire.say(&Word::Sockets(names), &descriptors)?;
        self.wire.expect(PATIENTLY, stopped, |word| matches!(word, Word::Ready))
    }

    /// The state is free; waits until the other process serves with it, or a stop is asked for once it has the place.
    pub fn give_state(&mut self, stopped: Stopped<'_>) -> Result<(), TakeoverError> {
        self.wire.say(&Word::State, &[])?;
        self.wire.expect(PATIENTLY, stopped, |word| matches!(word, Word::Serving))?;
        self.wire.say(&Word::Yours, &[])?;
        loop {
            match self.wire.hear_unless(PATIENTLY, stopped) {
                Ok(Word::Accepting) | Err(TakeoverError::Stopped) => return Ok(()),
                Ok(_) => return Err(TakeoverError::Unexpected),
                // It stands, and may go on at any time: to come back now would make two.
                Err(TakeoverError::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the place back: without this, the other process would take the end for a death, and serve.
    pub fn say_no(&mut self, why: &str) {
        // One that has gone needs no word.
        let _ = self.wire.say(&Word::Refused(why.to_owned()), &[]);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// A desk in a folder of its own, and the sessions that come.
    fn desk(
        predecessor: Option<Predecessor>,
    ) -> (tempfile::TempDir, std::path::PathBuf, Desk, mpsc::Receiver<Session>) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("takeover.sock");
        let (sender, sessions) = mpsc::channel();
        let desk = Desk::open(&path, predecessor, move |session| drop(sender.send(session))).expect("it listens");
        (folder, path, desk, sessions)
    }

    #[test]
    fn sockets_pass_with_their_names_and_accept_on_the_other_side() {
        let (_folder, path, _desk, sessions) = desk(None);
        let listeners: Vec<_> = (0..MAX_SOCKETS).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let mut new = Predecessor::find(&path).expect("it may").expect("one is there");
        assert_eq!(u32::try_from(new.pid()).ok(), Some(std::process::id()));
        let mut session = sessions.recv_timeout(SOON).expect("it is let in");
        let sockets: Vec<_> = listeners
            .iter()
            .map(|one| ("listener", one.local_addr().expect("bound"), one.try_clone().expect("a copy").into()))
            .collect();
        let old = std::thread::spawn(move || {
            session.hand_on(&sockets, &mut || false).and_then(|()| session.give_state(&mut || false))
        });
        let got = new.sockets().expect("they come");
        assert_eq!(got.len(), MAX_SOCKETS);
        for ((name, address, socket), listener) in got.into_iter().zip(listeners) {
            assert_eq!((name.as_str(), address), ("listener", listener.local_addr().expect("bound")));
            drop(listener);
            let _client = std::net::TcpStream::connect(address).expect("it listens still");
            TcpListener::from(socket).accept().expect("it is the same socket");
        }
        new.take_state().expect("it is given");
        new.say_serving().expect("it is heard");
        new.say_accepting().expect("it is heard");
        old.join().expect("no panic").expect("it went as it should");
    }

    #[test]
    fn an_old_process_that_dies_with_the_state_given_leaves_the_new_one_and_one_that_says_no_does_not() {
        for (no, served) in [(None, true), (Some("too late"), false)] {
            let (_folder, path, _desk, sessions) = desk(None);
            let mut new = Predecessor::find(&path).expect("it may").expect("one is there");
            let mut session = sessions.recv_timeout(SOON).expect("it is let in");
            session.wire.say(&Word::State, &[]).expect("it is heard");
            new.take_state().expect("it is given");
            no.into_iter().for_each(|why| session.say_no(why));
            drop(session);
            let answer = new.say_serving();
            assert_eq!(answer.is_ok(), served, "{answer:?}");
            assert!(served || matches!(answer, Err(TakeoverError::Refused(_))), "{answer:?}");
        }
    }

    #[test]
    fn a_stop_is_heard_while_the_other_process_takes_its_time() {
        let (_folder, path, _desk, sessions) = desk(None);
        let mut new = Predecessor::find(&path).expect("it may").expect("one is there");
        let mut session = sessions.recv_timeout(SOON).expect("it is let in");
        let second = || {
            let mut asked = 0;
            move || {
                asked += 1;
                asked > 1
            }
        };
        assert!(matches!(session.hand_on(&[], &mut second()), Err(TakeoverError::Stopped)));
        assert!(matches!(session.give_state(&mut second()), Err(TakeoverError::Stopped)));
        new.wire.say(&Word::Serving, &[]).expect("it is heard");
        session.give_state(&mut second()).expect("the place is the other's: the stop asks for no more than that");
    }

    #[test]
    fn one_at_a_time_and_none_while_the_last_one_s_forerunner_lives() {
        let (_folder, first_path, _desk, first) = desk(None);
        let before = Predecessor::find(&first_path).expect("it may").expect("one is there");
        let session = first.recv_timeout(SOON).expect("it is let in");
        let second = Predecessor::find(&first_path).expect("it may").map(|mut other| other.sockets());
        assert!(matches!(second, Some(Err(TakeoverError::Refused(why))) if why.contains("just now")));

        let (_folder, path, _desk, next) = desk(Some(before));
        let third = Predecessor::find(&path).expect("it may").map(|mut other| other.sockets());
        assert!(matches!(third, Some(Err(TakeoverError::Refused(why))) if why.contains("still finishing")));
        drop(session);
        let _last = Predecessor::find(&path).expect("it may").expect("one is there");
        next.recv_timeout(SOON).expect("it is let in once the forerunner has gone");
    }

    #[test]
    fn the_file_goes_with_its_owner_and_stays_with_another_s() {
        let (_folder, path, old, _sessions) = desk(None);
        let new = Desk::open(&path, None, drop).expect("it takes the place");
        drop(old);
        assert!(path.exists());
        drop(new);
        assert!(!path.exists() && matches!(Predecessor::find(&path), Ok(None)));
        let long = path.with_file_name("x".repeat(200));
        assert!(Desk::open(&long, None, drop).is_err_and(|error| error.to_string().contains("--takeover-socket")));
    }
}
