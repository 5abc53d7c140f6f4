//! The JSON body of a command, read so that every field that is wrong is told at once.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Map, Value};

use super::error::{FieldError, Kind, Problem};

/// The longest reason that is kept, in bytes.
pub const REASON_LIMIT: usize = 1_000;

pub struct Body {
    fields: Map<String, Value>,
    /// Those that were asked for: what there is to choose from.
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    /// No body is an empty object: most commands want nothing said.
    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        let unreadable = |why: String| Problem::bad_request(format!("the body is not a JSON object: {why}"));
        let fields = if bytes.trim_ascii().is_empty() {
            Map::new()
        } else {
            match serde_json::from_slice(&bytes) {
                Ok(Value::Object(fields)) => fields,
                Ok(_) => return Err(unreadable("it is another kind of value".into())),
                Err(error) => return Err(unreadable(error.to_string())),
            }
        };
        Ok(Self { fields, known: Vec::new(), errors: Vec::new() })
    }
}

fn unread(rejection: BytesRejection) -> Problem {
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::body_too_large(),
        _ => Problem::bad_request("the request body did not arrive whole"),
    }
}

impl Body {
    /// `null` is as good as nothing.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        match self.fields.remove(name)? {
            Value::Null => None,
            Value::String(text) => Some(text),
            _ => {
                self.refuse(name, "expected a text");
                None
            }
        }
    }

    /// What stands there, whatever it is; `null` is as good as nothing.
    pub fn value(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// A text that is read. `expected` is the end of a message: `expected …`.
    pub fn parsed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let text = self.text(name)?;
        self.read(name, &text, expected)
    }

    fn read<T: FromStr>(&mut self, name: &str, text: &str, expected: &str) -> Option<T> {
        let read = text.parse().ok();
        if read.is_none() {
            self.refuse(name, format!("`{text}` does not fit; expected {expected}"));
        }
        read
    }

    /// `None`: it was refused. `expected` is the end of a message: `expected …`.
    pub fn needed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let found = self.errors.len();
        let Some(text) = self.text(name) else {
            if self.errors.len() == found {
                self.refuse(name, format!("is missing; expected {expected}"));
            }
            return None;
        };
        self.read(name, &text, expected)
    }

    pub fn reason(&mut self) -> Option<String> {
        let reason = self.text("reason")?;
        if reason.len() > REASON_LIMIT {
            self.refuse("reason", format!("expected at most {REASON_LIMIT} bytes"));
        }
        Some(reason)
    }

    pub fn refuse(&mut self, name: &str, message: impl Into<String>) {
        self.errors.push(FieldError::body(format!("/{name}"), message));
    }

    /// What was not asked for yet, for those who know its fields better; nothing is left.
    pub fn rest(&mut self) -> Value {
        Value::Object(std::mem::take(&mut self.fields))
    }

    pub fn also(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        self.errors.extend(errors);
    }

    /// To be called last: what was not asked for is not known, and a misspelt name is refused, not passed over.
    pub fn end(mut self) -> Result<(), Problem> {
        let known = self.known.join(", ");
        for name in self.fields.keys() {
            // In a pointer, `~` and `/` stand for other things.
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            self.errors.push(FieldError::body(pointer, format!("there is no such field; expected one of {known}")));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::fields(Kind::InvalidFields, self.errors)) }
    }
}
