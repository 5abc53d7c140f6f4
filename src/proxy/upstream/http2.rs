//! One exchange on a stream of a shared HTTP/2 connection. Dropped before its end, the stream is cancelled.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;

use super::super::body::{BodyError, RequestBody};
use super::super::chunked::passed_trailers;
use super::super::decode::Malformed;
use super::super::encode::RequestHead;
use super::super::headers::{declared_length, strip_hop_by_hop};
use super::connection::{Place, STREAM_WINDOW};
use super::{Broken, Head, MAX_INTERIM, OnInterim, TOO_MANY_INTERIM};

pub struct Http2 {
    unsent: Option<Request<()>>,
    // In this order: the stream is let go of before its place.
    reading: Reading,
    /// What is left of the request; `None` when all is with the connection, or the endpoint takes no more.
    upload: Option<Upload>,
    has_body: bool,
    /// The answer has no body, whatever its fields say.
    to_head: bool,
    /// Announced, and not yet received.
    left: Option<u64>,
    /// Interim answers so far.
    interim: usize,
    place: Place,
}

enum Reading {
    Head(ResponseFuture),
    Body(RecvStream),
    Ended,
}

struct Upload {
    stream: SendStream<Bytes>,
    /// Taken from the client, and not yet from us.
    data: Bytes,
}

/// The endpoint takes no more of the request.
struct Refused;

impl Http2 {
    pub fn new(place: Place) -> Self {
        let reading = Reading::Ended;
        Self { unsent: None, reading, upload: None, has_body: false, to_head: false, left: None, interim: 0, place }
    }

    pub fn begin(&mut self, head: &RequestHead<'_>, has_body: bool, to_head: bool) {
        (self.has_body, self.to_head, self.interim) = (has_body, to_head, 0);
        self.unsent = Some(head.to_http2());
    }

    pub fn is_reused(&self) -> bool {
        !self.place.first
    }

    pub fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
        interim: OnInterim<'_>,
    ) -> Poll<Result<Head, Broken>> {
        self.start()?;
        loop {
            self.send(cx, body)?;
            let Reading::Head(response) = &mut self.reading else { return Poll::Pending };
            match response.poll_informational(cx) {
                Poll::Ready(Some(Ok(_))) if self.interim == MAX_INTERIM => {
                    return Poll::Ready(Err(TOO_MANY_INTERIM.into()));
                }
                Poll::Ready(Some(Ok(head))) => match head.status() {
                    StatusCode::CONTINUE => {
                        self.interim += 1;
                        body.go_on();
                    }
                    StatusCode::SWITCHING_PROTOCOLS => {
                        return Poll::Ready(Err(Malformed("HTTP/2 knows no switch of protocols").into()));
                    }
                    status => {
                        self.interim += 1;
                        let mut headers = head.into_parts().0.headers;
                        strip_hop_by_hop(&mut headers);
                        headers.remove(CONTENT_LENGTH);
                        interim(status, &headers);
                    }
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(before_head(&error))),
                Poll::Ready(None) | Poll::Pending => {
                    let response = ready!(Pin::new(response).poll(cx));
                    return Poll::Ready(response.map(|response| self.take_head(response)).map_err(|e| before_head(&e)));
                }
            }
        }
    }

    fn start(&mut self) -> Result<(), Broken> {
        let Some(request) = self.unsent.take() else { return Ok(()) };
        // What is refused here has reached no connection.
        let (response, stream) = self.place.send(request, !self.has_body).map_err(|error| {
            tracing::debug!(%error, "a request was not taken by its HTTP/2 connection");
            Broken::NotStarted
        })?;
        self.reading = Reading::Head(response);
        self.upload = self.has_body.then_some(Upload { stream, data: Bytes::new() });
        Ok(())
    }

    fn take_head(&mut self, response: Response<RecvStream>) -> Head {
        let (parts, body) = response.into_parts();
        let (status, mut headers) = (parts.status, parts.headers);
        strip_hop_by_hop(&mut headers);
        if status == StatusCode::NO_CONTENT {
            // It has no body, and HTTP/1.1 clients may believe one that says it has (RFC 9110 §8.6).
            headers.remove(CONTENT_LENGTH);
        }
        // The same number, if there are several: the library has seen to that.
        self.left = declared_length(&headers);
        if let Some(length) = headers.get(CONTENT_LENGTH).cloned() {
            headers.insert(CONTENT_LENGTH, length);
        }
        let bodiless = self.to_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.reading = if bodiless || body.is_end_stream() { Reading::Ended } else { Reading::Body(body) };
        Head { status, headers, upgrade: None }
    }

    pub(super) fn send(&mut self, cx: &mut Context<'_>, body: &mut RequestBody) -> Result<(), Broken> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        match upload.poll(cx, body) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.upload = None;
                Ok(())
            }
            Poll::Ready(Err(_)) => Err(Broken::Request),
        }
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Err(broken) = self.send(cx, body) {
            return Poll::Ready(Some(Err(broken)));
        }
        loop {
            let Reading::Body(stream) = &mut self.reading else { return Poll::Ready(None) };
            match ready!(stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Only an ended stream refuses this, and it needs no window.
                    let _ = stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    if stream.is_end_stream() {
                        self.reading = Reading::Ended;
                    }
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(within(&error)))),
                None => {
                    let trailers = ready!(stream.poll_trailers(cx)).map_err(|error| within(&error));
                    self.reading = Reading::Ended;
                    let trailers =
                        trailers.map(|fields| fields.as_ref().map(passed_trailers).filter(|t| !t.is_empty()));
                    return Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose());
                }
            }
        }
    }

    pub fn has_sent_all(&self) -> bool {
        self.unsent.is_none() && self.upload.is_none()
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.reading, Reading::Ended)
    }

    pub fn body_left(&self) -> Option<u64> {
        match self.reading {
            Reading::Ended => Some(0),
            Reading::Body(_) => self.left,
            Reading::Head(_) => None,
        }
    }
}

impl Upload {
    /// Ready when all is with the connection, or the endpoint takes no more. Its answer says why.
    fn poll(&mut self, cx: &mut Context<'_>, body: &mut RequestBody) -> Poll<Result<(), BodyError>> {
        loop {
            while !self.data.is_empty() {
                match ready!(self.poll_data(cx, body)) {
                    Ok(false) => {}
                    Ok(true) | Err(Refused) => return Poll::Ready(Ok(())),
                }
            }
            match ready!(body.poll_frame(cx)).transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => self.data = data,
                Some(Err(frame)) => {
                    self.finish(frame.into_trailers().ok().as_ref().map(passed_trailers));
                    return Poll::Ready(Ok(()));
                }
                None => {
                    self.finish(None);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Sends as much as the windows take; `true` when that was the end of the body.
    fn poll_data(&mut self, cx: &mut Context<'_>, body: &RequestBody) -> Poll<Result<bool, Refused>> {
        // No more than a window at a time, or one upload would claim what the connection has for all.
        self.stream.reserve_capacity(self.data.len().min(STREAM_WINDOW as usize));
        while self.stream.capacity() == 0 {
            if !matches!(ready!(self.stream.poll_capacity(cx)), Some(Ok(_))) {
                return Poll::Ready(Err(Refused));
            }
        }
        let data = self.data.split_to(self.stream.capacity().min(self.data.len()));
        let ends = self.data.is_empty() && body.has_ended();
        Poll::Ready(self.stream.send_data(data, ends).map(|()| ends).map_err(|_| Refused))
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) {
        let trailers = trailers.filter(|trailers| !trailers.is_empty());
        // A stream that has ended meanwhile takes nothing; its answer says why.
        let _ = match trailers {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        };
    }
}

/// RFC 9113 §8.7: a refused stream, and one beyond a GOAWAY's last, was not acted on.
fn before_head(error: &h2::Error) -> Broken {
    let refused = error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM);
    match error {
        _ if error.is_remote() && refused => Broken::NotStarted,
        _ if error.is_remote() => Broken::Reset,
        _ if error.is_library() => BREAKS_THE_RULES.into(),
        _ => Broken::Closed,
    }
}

fn within(error: &h2::Error) -> Broken {
    if error.is_library() { BREAKS_THE_RULES.into() } else { Broken::CutShort }
}

const BREAKS_THE_RULES: Malformed = Malformed("it breaks a rule of HTTP/2, or its head is too large");
