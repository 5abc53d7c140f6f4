//! The query of a request, read so that every field that is wrong is told at once.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::error::{FieldError, Kind, Problem};

/// The most fields that a query may have: an `explain` with many headers stays far below.
const MAX_FIELDS: usize = 256;

pub struct Fields {
    given: Vec<(String, String)>,
    /// Those that were asked for: what there is to choose from.
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl<S: Send + Sync> FromRequestParts<S> for Fields {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(given) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
        if given.len() > MAX_FIELDS {
            return Err(Problem::bad_request(format!("a query may have at most {MAX_FIELDS} fields")));
        }
        Ok(Self { given, known: Vec::new(), errors: Vec::new() })
    }
}

impl Fields {
    pub fn all(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        self.given.extract_if(.., |(given, _)| given == name).map(|(_, value)| value).collect()
    }

    pub fn one(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.all(name);
        if values.len() > 1 {
            self.refuse(name, "is there more than once");
        }
        values.pop()
    }

    /// `expected` is the end of a message: `expected …`.
    pub fn parsed<T: FromStr>(&mut self, name: &'static str, expected: &str) -> Option<T> {
        let value = self.one(name)?;
        match value.parse() {
            Ok(value) => Some(value),
            Err(_) => {
                self.refuse(name, format!("{value:?} does not fit; expected {expected}"));
                None
            }
        }
    }

    pub fn flag(&mut self, name: &'static str) -> bool {
        self.parsed(name, "true or false").unwrap_or(false)
    }

    pub fn refuse(&mut self, name: &'static str, message: impl Into<String>) {
        self.errors.push(FieldError::parameter(name, message));
    }

    /// To be called last: what was not asked for is not known, and a misspelt name is refused, not passed over.
    pub fn end(mut self) -> Result<(), Problem> {
        let known = if self.known.is_empty() { "there are none here".into() } else { self.known.join(", ") };
        for (name, _) in self.given {
            self.errors.push(FieldError::parameter(name, format!("there is no such parameter; expected {known}")));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::fields(Kind::BadRequest, self.errors)) }
    }
}
