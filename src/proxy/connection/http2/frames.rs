//! The frames of a client's HTTP/2 connection, counted as they pass (RFC 9113 §4.1): the library answers or passes
//! over as many as come of those that cost more than they carry.
//!
//! | counted | spends | earned back by |
//! | --- | --- | --- |
//! | streams that the client resets | one of `resets` | each stream that we end |
//! | SETTINGS, PING, PRIORITY, CONTINUATION, empty DATA and unknown frames | one of `control` | two for each frame, either way, that has data or a head |
//!
//! Both are full again after a minute. A connection that has spent one of them is read no more, which ends it. Not
//! counted is WINDOW_UPDATE: nothing is answered to it or kept of it, and there may be one for each frame of data.
//!
//! A head that has begun must be whole in time; as long as it is not, the client can say nothing else.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many frames of a kind a client may send in a minute, beyond those that are earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floods {
    pub resets: u32,
    pub control: u32,
}

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What each frame with content earns.
const EARNED: u32 = 2;
const MINUTE: Duration = Duration::from_secs(60);

/// What passes over a connection.
pub(super) struct Frames {
    received: Walk,
    sent: Walk,
    resets: Budget,
    control: Budget,
    /// How many heads have begun, and since when the last of them is not whole.
    heads: u64,
    unfinished: Option<(u64, Instant)>,
    is_flood: bool,
    /// Anything has been received since somebody has taken this; and something of an answer has been sent.
    pub heard: bool,
    pub told: bool,
    /// What is to be sent waits for the client.
    pub blocked: bool,
}

#[derive(Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    length: usize,
}

impl Frames {
    pub fn new(floods: Floods) -> Self {
        let now = Instant::now();
        Self {
            received: Walk { left: PREFACE_BYTES, ..Walk::default() },
            sent: Walk::default(),
            resets: Budget::new(floods.resets, now),
            control: Budget::new(floods.control, now),
            heads: 0,
            unfinished: None,
            is_flood: false,
            heard: false,
            told: false,
            blocked: false,
        }
    }

    /// The client has sent more than it may.
    pub fn is_flood(&self) -> bool {
        self.is_flood
    }

    /// Since when a head is not whole.
    pub fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished.map(|(_, since)| since)
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.heard = true;
        let Self { received, resets, control, heads, is_flood, .. } = self;
        received.pass(bytes, |frame| {
            *heads += u64::from(frame.kind == HEADERS);
            match frame.kind {
                RST_STREAM => *is_flood |= !resets.spend(),
                WINDOW_UPDATE => {}
                HEADERS => control.earn(EARNED),
                DATA if frame.length > 0 => control.earn(EARNED),
                DATA if frame.flags & END_STREAM != 0 => {}
                _ => *is_flood |= !control.spend(),
            }
        });
        let known = self.unfinished.filter(|(head, _)| *head == self.heads);
        let is_unfinished = self.received.is_within_head();
        self.unfinished = is_unfinished.then(|| known.unwrap_or_else(|| (self.heads, Instant::now())));
    }

    fn send(&mut self, bytes: &[u8]) {
        let Self { sent, resets, control, told, .. } = self;
        sent.pass(bytes, |frame| {
            if matches!(frame.kind, DATA | HEADERS) {
                *told = true;
                control.earn(EARNED);
                if frame.flags & END_STREAM != 0 {
                    resets.earn(1);
                }
            }
        });
    }
}

/// From the head of one frame to the next, however the bytes are cut.
#[derive(Default)]
struct Walk {
    head: [u8; HEAD_BYTES],
    /// How much of the head is here.
    have: usize,
    /// What is left of the frame's payload.
    left: usize,
    kind: u8,
    flags: u8,
}

impl Walk {
    fn pass(&mut self, mut bytes: &[u8], mut see: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let skipped = self.left.min(bytes.len());
                self.left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEAD_BYTES - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == HEAD_BYTES {
                self.have = 0;
                let [a, b, c, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                (self.left, self.kind, self.flags) = (length, kind, flags);
                see(Frame { kind, flags, length });
            }
        }
    }

    /// A head has begun and is not whole.
    fn is_within_head(&self) -> bool {
        let is_head = matches!(self.kind, HEADERS | CONTINUATION);
        self.have > 0 || (is_head && (self.left > 0 || self.flags & END_HEADERS == 0))
    }
}

/// So many in a minute, and what is earned. The clock is read only when it is spent.
struct Budget {
    most: u32,
    left: u32,
    filled: Instant,
}

impl Budget {
    fn new(most: u32, now: Instant) -> Self {
        Self { most, left: most, filled: now }
    }

    fn earn(&mut self, more: u32) {
        self.left = self.left.saturating_add(more).min(self.most);
    }

    fn spend(&mut self) -> bool {
        if self.left == 0 {
            self.fill(Instant::now());
        }
        let has_some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_some
    }

    fn fill(&mut self, now: Instant) {
        let minutes = now.duration_since(self.filled).as_secs_f64() / MINUTE.as_secs_f64();
        let filled = (f64::from(self.most) * minutes.min(1.0)) as u32;
        if filled > 0 {
            (self.left, self.filled) = (filled, now);
        }
    }
}

/// The client's socket with someone who counts.
pub(super) struct Watched<S> {
    stream: S,
    frames: Rc<RefCell<Frames>>,
}

impl<S> Watched<S> {
    pub fn new(stream: S, frames: Rc<RefCell<Frames>>) -> Self {
        Self { stream, frames }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.frames.borrow().is_flood {
            // What came before has been read, and may have been answered.
            return Poll::Ready(Err(io::Error::other("more frames without content than a client may send")));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.frames.borrow_mut().receive(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.frames.borrow_mut().blocked = true;
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.frames.borrow_mut().send(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.frames.borrow_mut().blocked = true;
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, buffers))?;
        let (mut frames, mut left) = (self.frames.borrow_mut(), written);
        for buffer in buffers {
            let part = left.min(buffer.len());
            frames.send(&buffer[..part]);
            left -= part;
        }
        drop(frames);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // Asked for when all that there was has been written.
        self.frames.borrow_mut().blocked = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(payload).expect("is short").to_be_bytes();
        [&[a, b, c, kind, flags, 0, 0, 0, 1][..], &vec![0xff; payload]].concat()
    }

    fn begun(floods: Floods) -> Frames {
        let mut frames = Frames::new(floods);
        frames.receive(&[b'P'; PREFACE_BYTES]);
        frames
    }

    const FEW: Floods = Floods { resets: 3, control: 3 };
    const PING: u8 = 6;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let bytes: Vec<u8> = [frame(HEADERS, END_HEADERS, 30), frame(DATA, 0, 5), frame(RST_STREAM, 0, 4)].concat();
        for piece in 1..=bytes.len() {
            let (mut walk, mut seen) = (Walk::default(), Vec::new());
            bytes.chunks(piece).for_each(|piece| walk.pass(piece, |frame| seen.push((frame.kind, frame.length))));
            assert_eq!(seen, [(HEADERS, 30), (DATA, 5), (RST_STREAM, 4)], "{piece}");
            assert!(!walk.is_within_head());
        }
    }

    #[test]
    fn what_carries_nothing_is_bounded() {
        const PRIORITY: u8 = 2;
        for (kind, payload) in [(4, 0), (PING, 8), (PRIORITY, 5), (CONTINUATION, 9), (DATA, 0), (0x42, 100)] {
            let mut frames = begun(FEW);
            (0..3).for_each(|_| frames.receive(&frame(kind, 0, payload)));
            assert!(!frames.is_flood(), "{kind}");
            frames.receive(&frame(kind, 0, payload));
            assert!(frames.is_flood(), "{kind}");
        }
        let mut frames = begun(FEW);
        (0..1000).for_each(|_| frames.receive(&frame(WINDOW_UPDATE, 0, 4)));
        (0..1000).for_each(|_| frames.receive(&frame(DATA, END_STREAM, 0)));
        assert!(!frames.is_flood());
    }

    #[test]
    fn content_earns_what_it_needs() {
        let mut frames = begun(FEW);
        for _ in 0..100 {
            frames.receive(&frame(PING, 0, 8));
            frames.receive(&frame(PING, 0, 8));
            frames.send(&frame(DATA, 0, 10));
        }
        assert!(!frames.is_flood());
    }

    #[test]
    fn resets_are_held_against_the_streams_that_end() {
        let mut frames = begun(FEW);
        for _ in 0..100 {
            frames.receive(&frame(RST_STREAM, 0, 4));
            frames.send(&frame(HEADERS, END_STREAM | END_HEADERS, 10));
        }
        assert!(!frames.is_flood());
        (0..4).for_each(|_| frames.receive(&frame(RST_STREAM, 0, 4)));
        assert!(frames.is_flood());
    }

    #[test]
    fn a_minute_fills_what_was_spent() {
        let now = Instant::now();
        let mut budget = Budget { most: 60, left: 0, filled: now };
        budget.fill(now + Duration::from_millis(500));
        assert_eq!(budget.left, 0);
        budget.fill(now + Duration::from_secs(10));
        assert_eq!(budget.left, 10);
        budget.fill(now + Duration::from_secs(10_000));
        assert_eq!(budget.left, 60);
    }

    #[test]
    fn a_head_that_is_not_whole_is_noticed_and_each_has_its_own_time() {
        let mut frames = begun(FEW);
        frames.receive(&frame(HEADERS, 0, 30));
        let since = frames.unfinished_since().expect("no END_HEADERS");
        frames.receive(&frame(CONTINUATION, 0, 3));
        assert_eq!(frames.unfinished_since(), Some(since));
        frames.receive(&frame(CONTINUATION, END_HEADERS, 3));
        assert_eq!(frames.unfinished_since(), None);
        let whole = frame(HEADERS, END_HEADERS, 30);
        frames.receive(&whole[..20]);
        let first = frames.unfinished_since().expect("is cut");
        std::thread::sleep(Duration::from_millis(2));
        frames.receive(&[&whole[20..], &whole[..20]].concat());
        assert!(frames.unfinished_since().expect("is cut") > first, "another head");
        frames.receive(&whole[20..]);
        assert_eq!(frames.unfinished_since(), None);
    }
}
