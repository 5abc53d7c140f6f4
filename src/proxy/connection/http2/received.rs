//! A request body on a stream.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::EXPECT;
use http_body::Frame;

use crate::proxy::connection::ClientConn;
use crate::proxy::headers::declared_length;

/// What is received of it goes back to the client's windows as it is taken.
pub(in crate::proxy) struct Received {
    stream: RecvStream,
    /// Announced, and not yet taken.
    left: Option<u64>,
    /// Only trailers may follow.
    data_ended: bool,
    /// The client waits to be asked for it.
    owes_continue: Option<Rc<ClientConn>>,
}

impl Received {
    /// `headers`: of the request, whose lengths are one.
    pub fn new(stream: RecvStream, headers: &HeaderMap, conn: &Rc<ClientConn>) -> Self {
        let (mut left, mut owes_continue) = (Some(0), None);
        if !stream.is_end_stream() {
            left = declared_length(headers);
            let waits = headers.get(EXPECT).is_some_and(|word| word.as_bytes().eq_ignore_ascii_case(b"100-continue"));
            owes_continue = waits.then(|| conn.clone());
        }
        Self { stream, left, data_ended: false, owes_continue }
    }

    /// Nothing of it is left.
    pub fn has_ended(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// What is left of it, where the client has said so.
    pub fn left(&self) -> Option<u64> {
        self.left
    }

    /// What broke off must never look whole, or be answered: of a stream that its client has reset nothing more comes,
    /// and its exchange ends when the stream's task has seen this pending.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if !self.data_ended {
            let polled = self.stream.poll_data(cx);
            if let (Some(conn), Poll::Pending) = (self.owes_continue.take(), &polled) {
                conn.interim.go_on();
            }
            match ready!(polled) {
                Some(Ok(data)) => {
                    // Only an ended stream refuses this, and it needs no window.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Frame::data(data)));
                }
                Some(Err(_)) => return Poll::Pending,
                None => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(Frame::trailers)),
            Err(_) => Poll::Pending,
        }
    }
}
