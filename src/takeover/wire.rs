//! Words and descriptors over a stream.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt,
};

use super::{LINE_BYTES, MAX_SOCKETS, Stopped, TakeoverError, Word};

/// The process at the other end, if it may be talked to.
pub(super) fn peer(stream: &UnixStream) -> Result<i32, TakeoverError> {
    let other = sockopt::socket_peercred(stream).map_err(std::io::Error::from)?;
    if other.uid != rustix::process::geteuid() && !other.uid.is_root() {
        return Err(TakeoverError::Stranger(other.uid.as_raw()));
    }
    Ok(other.pid.as_raw_nonzero().get())
}

/// For how long a stop may go unheard.
const SLICE: Duration = Duration::from_millis(100);

pub(super) struct Wire {
    stream: UnixStream,
    /// Received, and not yet a whole line.
    received: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Wire {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, received: Vec::new(), descriptors: Vec::new() }
    }

    pub fn say(&mut self, word: &Word, descriptors: &[BorrowedFd<'_>]) -> Result<(), TakeoverError> {
        let mut line = serde_json::to_vec(word).map_err(std::io::Error::from)?;
        line.push(b'\n');
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(TakeoverError::Unexpected);
        }
        self.stream.set_write_timeout(Some(super::PROMPTLY))?;
        let sent = sendmsg(&self.stream, &[IoSlice::new(&line)], &mut beside, SendFlags::NOSIGNAL);
        let sent = sent.map_err(|error| gone_or(error.into()))?;
        self.stream.write_all(&line[sent..]).map_err(gone_or)
    }

    /// The next word. A refusal is an error.
    pub fn hear(&mut self, patience: Duration) -> Result<Word, TakeoverError> {
        self.hear_unless(patience, &mut || false)
    }

    /// The same, until a stop is asked for.
    pub fn hear_unless(&mut self, patience: Duration, stopped: Stopped<'_>) -> Result<Word, TakeoverError> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                return match serde_json::from_slice(&line) {
                    Ok(Word::Refused(why)) => Err(TakeoverError::Refused(why)),
                    Ok(word) => Ok(word),
                    Err(_) => Err(TakeoverError::Unexpected),
                };
            }
            if self.received.len() > LINE_BYTES {
                return Err(TakeoverError::Unexpected);
            }
            if stopped() {
                return Err(TakeoverError::Stopped);
            }
            self.receive(deadline)?;
        }
    }

    pub fn expect(
        &mut self,
        patience: Duration,
        stopped: Stopped<'_>,
        wanted: impl FnOnce(&Word) -> bool,
    ) -> Result<(), TakeoverError> {
        if wanted(&self.hear_unless(patience, stopped)?) { Ok(()) } else { Err(TakeoverError::Unexpected) }
    }

    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }

    /// What there is, or nothing after a [`SLICE`].
    fn receive(&mut self, deadline: Instant) -> Result<(), TakeoverError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TakeoverError::TimedOut);
        }
        self.stream.set_read_timeout(Some(left.min(SLICE)))?;
        let mut block = [0; 4096];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let got = match recvmsg(&self.stream, &mut [IoSliceMut::new(&mut block)], &mut beside, RecvFlags::CMSG_CLOEXEC)
        {
            Ok(got) => got,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(gone_or(error.into())),
        };
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) || self.descriptors.len() > MAX_SOCKETS {
            return Err(TakeoverError::Unexpected);
        }
        if got.bytes == 0 {
            return Err(TakeoverError::Gone);
        }
        self.received.extend_from_slice(&block[..got.bytes]);
        Ok(())
    }

    /// Whether the other end still holds it.
    pub fn is_open(&self) -> bool {
        let asked = self.stream.set_nonblocking(true).and_then(|()| (&self.stream).read(&mut [0]));
        asked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

fn gone_or(error: std::io::Error) -> TakeoverError {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    if matches!(error.kind(), BrokenPipe | ConnectionReset) { TakeoverError::Gone } else { error.into() }
}
