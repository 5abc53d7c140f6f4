//! An answer that is tapped as it passes: the [`Tap`] with the clock, the settings and the counters around it.
//!
//! Only what can say something is tapped: answers with a body, a status of success and a content type that the
//! tap knows. The clock is read once a frame, and it serves the idle time-out too.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::connection::ClientConn;
use super::tap::{Media, Tap, Transport};
use crate::routing::spec::StreamSpec;
use crate::telemetry::stats::{StreamEnd, Usage, VersionStats};

/// What a silent agent's client gets: a comment, which no reader of events passes on.
const HEARTBEAT: &[u8] = b": heartbeat\n\n";

pub(super) struct Streamed {
    tap: Tap,
    started: Instant,
    first_token: Option<Duration>,
    last_token: Instant,
    stall: Option<Wait>,
    heartbeat: Option<Wait>,
    /// What fields of the head or the trailers say.
    told: Usage,
    end: Option<StreamEnd>,
}

/// A wait for something to come, over and over.
#[derive(Clone, Copy)]
struct Wait {
    patience: Duration,
    until: Instant,
}

impl Wait {
    fn new(patience: Duration, now: Instant) -> Self {
        Self { patience, until: now + patience }
    }

    fn restart(&mut self, now: Instant) {
        self.until = now + self.patience;
    }
}

/// What is to be done about an agent that is silent.
pub(super) enum Silence {
    Bear,
    /// Send this to the client.
    Fill(Bytes),
    /// It has been silent for too long.
    End,
}

impl Streamed {
    /// For an answer whose head came at `now`; `None` where there is nothing to read. `has_length`: its body's
    /// length is known, so that nothing can be put into it.
    pub fn of(
        spec: &StreamSpec,
        method: &Method,
        (status, headers): (StatusCode, &HeaderMap),
        has_length: bool,
        conn: &ClientConn,
        now: Instant,
    ) -> Option<Box<Self>> {
        if !matches!(status.as_u16(), 200..=203) {
            return None;
        }
        let tap = Tap::of(spec.dialect, spec.encoded, headers, method == Method::POST)?;
        let is_stream = tap.media() != Media::Document;
        let heartbeat = spec.heartbeat.filter(|_| !has_length && tap.is_between_events());
        let mut streamed = Self {
            tap,
            started: conn.exchange_start(),
            first_token: None,
            last_token: now,
            stall: spec.stall_timeout.filter(|_| is_stream).map(|patience| Wait::new(patience, now)),
            heartbeat: heartbeat.map(|patience| Wait::new(patience, now)),
            told: Usage::default(),
            end: None,
        };
        streamed.take_fields(spec, headers);
        streamed.set_alarm(conn);
        Some(Box::new(streamed))
    }

    /// Events or lines, and not one document.
    pub fn is_stream(&self) -> bool {
        self.tap.media() != Media::Document
    }

    /// Looks into the usage fields that the spec names.
    pub fn take_fields(&mut self, spec: &StreamSpec, fields: &HeaderMap) {
        let number = |name: &Option<HeaderName>| fields.get(name.as_ref()?)?.to_str().ok()?.trim().parse().ok();
        let Usage { input_tokens, output_tokens } = &mut self.told;
        *input_tokens = number(&spec.input_tokens_header).or(*input_tokens);
        *output_tokens = number(&spec.output_tokens_header).or(*output_tokens);
    }

    /// A frame of data passes.
    pub fn pass(&mut self, data: &[u8], now: Instant, conn: &ClientConn, stats: &VersionStats) {
        let seen = self.tap.read(data);
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.restart(now);
        }
        if self.tap.has_last_word() {
            self.stall = None;
        } else if let Some(stall) = self.stall.as_mut().filter(|_| seen.events > 0) {
            stall.restart(now);
        }
        for _ in 0..seen.tokens {
            if self.first_token.is_none() {
                self.first_token = Some(now.duration_since(self.started));
            } else {
                // Of those that came together, the client waited for the first only.
                stats.between_tokens(conn.worker.index, now.duration_since(self.last_token));
            }
            self.last_token = now;
        }
        self.set_alarm(conn);
    }

    fn set_alarm(&self, conn: &ClientConn) {
        let waits = [&self.stall, &self.heartbeat].into_iter().flatten();
        if let Some(until) = waits.map(|wait| wait.until).min() {
            conn.set_alarm(Some(until));
        }
    }

    /// The alarm rang, and still nothing has come.
    pub fn is_silent(&mut self, now: Instant, conn: &ClientConn) -> Silence {
        if self.stall.is_some_and(|stall| now >= stall.until) {
            return Silence::End;
        }
        let mut silence = Silence::Bear;
        if let Some(heartbeat) = self.heartbeat.as_mut().filter(|heartbeat| now >= heartbeat.until) {
            heartbeat.restart(now);
            if self.tap.is_between_events() {
                silence = Silence::Fill(Bytes::from_static(HEARTBEAT));
            }
        }
        self.set_alarm(conn);
        silence
    }

    /// The answer is over; what is asked for later is of the first end.
    pub fn end(&mut self, transport: Transport) -> Option<StreamEnd> {
        if self.end.is_none() {
            self.end = self.tap.end(transport);
        }
        self.end
    }

    pub fn first_token(&self) -> Option<Duration> {
        self.first_token
    }

    /// The body says it, or else the fields.
    pub fn usage(&self) -> Usage {
        let body = self.tap.usage();
        Usage {
            input_tokens: body.input_tokens.or(self.told.input_tokens),
            output_tokens: body.output_tokens.or(self.told.output_tokens),
        }
    }

    pub fn model(&self) -> Option<&str> {
        self.tap.model()
    }
}
