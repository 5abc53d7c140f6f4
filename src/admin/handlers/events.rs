//! `GET /api/v1/events`: every change of state as server-sent events.
//!
//! A stream begins with the id to resume from, then each event as it happens, and a comment every
//! [`HEARTBEAT`] so that both ends know that the other is there. It ends with its connection's time, about a
//! minute; the client resumes with `Last-Event-ID`, as browsers do by themselves, and gets all that it missed.
//! A token that was revoked in the meantime thus ends its followers too.
//!
//! Bounds: [`FOLLOWERS`] at once. Nobody waits for a follower: one that reads too slowly finds the events that
//! it missed gone from the feed, and is told so by the event `missed`. So is one whose last id is of another run.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::admin::AdminState;
use crate::admin::error::{Kind, Problem};
use crate::admin::query::Fields;
use crate::admin::serve::Closing;
use crate::admin::wire::{EventView, MissedView};
use crate::control::feed::Event;
use crate::control::service::Control;

pub const FOLLOWERS: usize = 16;
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How many pieces wait for a client that reads slowly; the feed keeps the rest.
const QUEUE: usize = 16;

/// Of one run of the instance.
#[derive(Clone)]
pub struct Followers {
    /// Event numbers begin anew with each run, so ids name it.
    run: Arc<str>,
    places: Arc<Semaphore>,
}

impl Default for Followers {
    fn default() -> Self {
        let start = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { run: format!("{:x}", start.as_millis()).into(), places: Arc::new(Semaphore::new(FOLLOWERS)) }
    }
}

/// Where a follower comes in.
enum Begin {
    /// After the event of this number.
    Here(u64),
    /// What it saw last is not known here.
    Elsewhere,
}

pub async fn follow(
    State(state): State<AdminState>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    fields.end()?;
    let place = state.followers.places.clone().try_acquire_owned().map_err(|_| {
        Problem::new(Kind::TooManyFollowers, format!("{FOLLOWERS} follow already, and more cannot; try again later"))
    })?;
    let from = state.followers.place_of(&headers, *state.control.newest_event().borrow());
    let (sender, body) = Channel::new(QUEUE);
    let follower = Follower { control: state.control, run: state.followers.run, sender, _place: place };
    let closing = closing.map(|Extension(closing)| closing);
    tokio::spawn(async move {
        tokio::select! {
            // It ends when its client is gone, and the connection when its time is over.
            _ = follower.follow(from) => {}
            () = closed(closing) => {}
        }
    });
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    let mut response = (head, Body::new(body)).into_response();
    // A proxy in between must not collect events until they are many.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

async fn closed(closing: Option<Closing>) {
    match closing {
        Some(closing) => closing.wait().await,
        None => std::future::pending().await,
    }
}

impl Followers {
    fn place_of(&self, headers: &HeaderMap, newest: u64) -> Begin {
        let Some(last) = headers.get("last-event-id") else { return Begin::Here(newest) };
        let number = |last: &str| last.strip_prefix(&*self.run)?.strip_prefix('-')?.parse().ok();
        last.to_str().ok().and_then(number).map_or(Begin::Elsewhere, Begin::Here)
    }
}

/// The client is gone.
struct Gone;

struct Follower {
    control: Control,
    run: Arc<str>,
    sender: Sender<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    async fn follow(mut self, from: Begin) -> Result<(), Gone> {
        let mut newest = self.control.newest_event();
        let mut after = match from {
            Begin::Here(after) => {
                let id = self.id(after);
                self.send(format!("retry: 1000\nid: {id}\n\n")).await?;
                after
            }
            Begin::Elsewhere => {
                let newest = *newest.borrow();
                self.missed(newest, &MissedView::of_another_run()).await?;
                newest
            }
        };
        loop {
            // Marked as seen before it is looked at, so that what comes in between is looked at again.
            newest.mark_unchanged();
            match self.control.events_since(after) {
                Ok(events) => {
                    for event in &events {
                        self.tell(event).await?;
                        after = event.id;
                    }
                }
                Err(missed) => {
                    after = missed.newest;
                    self.missed(after, &MissedView::fell_behind(missed)).await?;
                    continue;
                }
            }
            match tokio::time::timeout(HEARTBEAT, newest.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => self.send(": still here\n\n".into()).await?,
            }
        }
    }

    async fn tell(&mut self, event: &Event) -> Result<(), Gone> {
        let text = self.text(event.id, event.kind.as_str(), &EventView::from(event));
        self.send(text).await
    }

    async fn missed(&mut self, newest: u64, missed: &MissedView) -> Result<(), Gone> {
        let text = self.text(newest, "missed", missed);
        self.send(text).await
    }

    fn text(&self, id: u64, name: &str, data: &impl Serialize) -> String {
        let mut text = format!("id: {}\nevent: {name}\n", self.id(id));
        // JSON has no line break outside of its texts, and none unescaped within.
        let data = serde_json::to_string(data).unwrap_or_default();
        let _ = write!(text, "data: {data}\n\n");
        text
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.run)
    }

    async fn send(&mut self, text: String) -> Result<(), Gone> {
        self.sender.send_data(text.into()).await.map_err(|_| Gone)
    }
}
