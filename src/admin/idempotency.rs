//! A POST that is sent again with the same `Idempotency-Key` is not carried out twice.
//!
//! The first answer that changed something is kept, and is the answer to every repetition. A refusal is not
//! kept: it changed nothing, so to ask again is to ask anew. While a request is under way, its repetition gets
//! 409; the same key for something else gets 422. The work goes on when its client is gone: that is the very
//! case in which the client will repeat it.
//!
//! Bounds: [`MAX_KEPT`] answers of at most [`MAX_ANSWER`] bytes, each for [`LIFETIME`]. At the bound the oldest
//! goes: a rollback must not be refused because others were many. A restart forgets them all; a command that
//! comes again after it meets the state that it led to, and is refused for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::BODY_LIMIT;
use super::auth::Caller;
use super::error::{FieldError, Kind, Problem};

pub const MAX_KEPT: usize = 1_000;
const MAX_ANSWER: usize = 256 << 10;
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
const HEADER: &str = "idempotency-key";

#[derive(Clone, Default)]
pub struct Answers(Arc<Mutex<HashMap<Key, Kept>>>);

/// Two callers may choose the same key.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    caller: Arc<str>,
    text: String,
}

struct Kept {
    at: Instant,
    request: [u8; 32],
    /// `None`: under way.
    answer: Option<Answer>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answers {
    /// Between the gate and the handler.
    pub async fn handle(&self, request: Request, next: Next) -> Response {
        let (head, body) = request.into_parts();
        let key = match key_of(&head) {
            Ok(Some(key)) => key,
            Ok(None) => return next.run(Request::from_parts(head, body)).await,
            Err(problem) => return problem.into_response(),
        };
        // Only a body that is too long or breaks off fails here.
        let Ok(body) = to_bytes(body, BODY_LIMIT).await else { return Problem::body_too_large().into_response() };
        let place = match self.take_place(key, digest(&head, &body), Instant::now()) {
            Ok(Taken::Place(place)) => place,
            Ok(Taken::Answer(answer)) => return answer.into_response(),
            Err(problem) => return problem.into_response(),
        };
        let request = Request::from_parts(head, Body::from(body));
        let work = tokio::spawn(async move { place.keep(next.run(request).await).await });
        work.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    }

    fn take_place(&self, key: Key, request: [u8; 32], now: Instant) -> Result<Taken, Problem> {
        let mut kept = self.lock();
        if let Some(known) = kept.get(&key).filter(|known| !known.is_over(now)) {
            return match &known.answer {
                _ if known.request != request => Err(reused()),
                None => Err(in_use()),
                Some(answer) => Ok(Taken::Answer(answer.clone())),
            };
        }
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, known| !known.is_over(now));
        }
        if kept.len() >= MAX_KEPT {
            let oldest = kept.iter().filter(|(_, known)| known.answer.is_some()).min_by_key(|(_, known)| known.at);
            let oldest = oldest.map(|(key, _)| key.clone());
            // Those under way are fewer than connections, so there is one to go.
            oldest.and_then(|key| kept.remove(&key));
        }
        kept.insert(key.clone(), Kept { at: now, request, answer: None });
        Ok(Taken::Place(Place { answers: self.clone(), key: Some(key) }))
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Taken {
    Place(Place),
    Answer(Answer),
}

/// Held while a request is under way; given back if nothing came of it.
struct Place {
    answers: Answers,
    key: Option<Key>,
}

impl Place {
    async fn keep(mut self, response: Response) -> Response {
        if !response.status().is_success() {
            return response;
        }
        let (head, body) = response.into_parts();
        let Ok(body) = to_bytes(body, MAX_ANSWER).await else {
            // The handlers' answers are far below; one that was not would be known as done, if not as what.
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        let answer = Answer { status: head.status, headers: head.headers, body };
        if let Some(key) = self.key.take()
            && let Some(kept) = self.answers.lock().get_mut(&key)
        {
            kept.answer = Some(answer.clone());
        }
        answer.into_response()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.answers.lock().remove(&key);
        }
    }
}

impl Kept {
    fn is_over(&self, now: Instant) -> bool {
        self.answer.is_some() && now.saturating_duration_since(self.at) >= LIFETIME
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (self.status, self.headers, self.body).into_response()
    }
}

fn key_of(head: &request::Parts) -> Result<Option<Key>, Problem> {
    let mut values = head.headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let sound =
        |value: &HeaderValue| value.to_str().ok().filter(|text| (1..=255).contains(&text.len())).map(String::from);
    let wrong = || {
        let message = "expected one value of 1 to 255 printable ASCII characters";
        Problem::fields(Kind::BadRequest, vec![FieldError::header("Idempotency-Key", message)])
    };
    let text = sound(value).filter(|_| values.next().is_none()).ok_or_else(wrong)?;
    let caller = head.extensions.get::<Caller>().map_or_else(|| "".into(), |caller| caller.name.clone());
    Ok(Some(Key { caller, text }))
}

fn digest(head: &request::Parts, body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    // A line break is in neither part, so that no two requests look alike.
    digest.update(format!("{}\n{}\n", head.method, head.uri));
    digest.update(body);
    digest.finalize().into()
}

fn in_use() -> Problem {
    let detail = "a request with this Idempotency-Key is under way; ask again when it is answered";
    Problem::new(Kind::IdempotencyKeyInUse, detail)
}

fn reused() -> Problem {
    let detail = "this Idempotency-Key was used for another request in the last 24 hours; use a new key for each";
    Problem::new(Kind::IdempotencyKeyReused, detail)
}
