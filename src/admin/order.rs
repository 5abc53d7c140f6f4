//! What every command carries: who orders it, on which knowledge, and whether only to say what would happen.

use axum::extract::FromRequestParts;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use super::auth::Caller;
use super::error::{FieldError, Kind, Problem};
use super::handlers::place::Place;
use super::query::Fields;
use crate::control::command::Order;
use crate::control::model::Actor;

/// But for the reason, which stands in the body.
pub struct Terms {
    pub by: Actor,
    pub expected_revision: Option<u64>,
    pub dry_run: bool,
}

/// A command on an agent, or on one of its deployments.
pub struct Ordered {
    pub place: Place,
    pub terms: Terms,
}

impl<S: Send + Sync> FromRequestParts<S> for Ordered {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut fields = Fields::from_request_parts(parts, state).await?;
        let place = Place::read(parts, state, &mut fields).await?;
        let terms = Terms { expected_revision: expected_revision(&parts.headers)?, ..Terms::read(parts, &mut fields)? };
        fields.end()?;
        Ok(Self { place, terms })
    }
}

/// A command that is for no one agent. `If-Match` says nothing here: each agent has a revision of its own, and nobody
/// is kept from an emergency rollback by what a client sends with every command.
pub struct OrderedAll(pub Terms);

impl<S: Send + Sync> FromRequestParts<S> for OrderedAll {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut fields = Fields::from_request_parts(parts, state).await?;
        let terms = Terms::read(parts, &mut fields)?;
        fields.end().map(|()| Self(terms))
    }
}

impl Terms {
    /// Without a revision to expect.
    fn read(parts: &Parts, fields: &mut Fields) -> Result<Self, Problem> {
        // The gate stands before every handler; a request that came around it is nobody's.
        let caller = parts.extensions.get::<Caller>().ok_or_else(Problem::token_wanted)?;
        Ok(Self {
            by: Actor::new(&*caller.name, format!("api {}", caller.source)),
            expected_revision: None,
            dry_run: fields.flag("dryRun"),
        })
    }

    pub fn order(self, reason: Option<String>) -> Order {
        Order { by: self.by, reason, expected_revision: self.expected_revision, dry_run: self.dry_run }
    }
}

/// An agent's revision, as a header of the answer.
pub fn etag(revision: u64) -> HeaderValue {
    // Digits and quotes are good in a header.
    HeaderValue::try_from(format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// `*` asks for any state that is there, and every agent has one.
fn expected_revision(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none()).map(str::trim);
    if text == Some("*") {
        return Ok(None);
    }
    let revision = text.and_then(|text| text.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    revision.map(Some).ok_or_else(|| {
        let message = "expected one revision as the ETag had it, such as \"12\", or *";
        Problem::fields(Kind::BadRequest, vec![FieldError::header("If-Match", message)])
    })
}
