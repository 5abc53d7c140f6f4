//! `GET /api/v1/audit`: who changed what, the oldest first.
//!
//! Records lie in the order of their numbers, so to look for those of one agent is to read them all: at most
//! [`SCANNED`] for one request, whose page then ends early and says where to go on.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;

use crate::admin::AdminState;
use crate::admin::error::{Kind, Problem};
use crate::admin::page::{self, Page};
use crate::admin::query::Fields;
use crate::control::audit::Record;
use crate::control::service::Control;
use crate::control::store::StoreError;

const SCANNED: usize = 10_000;
const READ_AT_ONCE: usize = 500;

/// Which records.
pub struct Asked {
    agent: Option<String>,
    environment: Option<String>,
    /// A record's number.
    after: u64,
    limit: usize,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut fields = Fields::from_request_parts(parts, state).await?;
        let asked = Self {
            agent: fields.one("agent"),
            environment: fields.one("environment"),
            after: fields.parsed("after", "the number of a record").unwrap_or(0),
            limit: page::limit(&mut fields),
        };
        fields.end().map(|()| asked)
    }
}

impl Asked {
    fn wants(&self, record: &Record) -> bool {
        let fits = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        fits(&self.agent, &record.entry.agent) && fits(&self.environment, &record.entry.environment)
    }

    fn read(&self, control: &Control) -> Result<Page<Record>, StoreError> {
        let (mut items, mut after) = (Vec::new(), self.after);
        for _ in 0..SCANNED / READ_AT_ONCE {
            let records = control.audit(after, READ_AT_ONCE)?;
            let is_end = records.len() < READ_AT_ONCE;
            for record in records {
                if items.len() == self.limit {
                    return Ok(Page { items, next: Some(after.to_string()) });
                }
                after = record.sequence;
                if self.wants(&record) {
                    items.push(record);
                }
            }
            if is_end {
                return Ok(Page { items, next: None });
            }
        }
        Ok(Page { items, next: Some(after.to_string()) })
    }
}

pub async fn list(State(state): State<AdminState>, asked: Asked) -> Result<Json<Page<Record>>, Problem> {
    // On a thread that may wait for a disk.
    let read = tokio::task::spawn_blocking(move || asked.read(&state.control)).await;
    match read {
        Ok(Ok(page)) => Ok(Json(page)),
        Ok(Err(error)) => {
            tracing::error!(%error, "the audit cannot be read");
            Err(Problem::new(Kind::StoreUnavailable, "the store cannot be read; the log says why"))
        }
        Err(_) => Err(Problem::new(Kind::StoreUnavailable, "the store was not read to its end; the log says why")),
    }
}
