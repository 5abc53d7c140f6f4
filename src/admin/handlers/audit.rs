//! `GET /api/v1/audit`: who changed what, the oldest first or the newest first.
//!
//! Records lie in the order of their numbers, so to look for those of one agent is to read them all: at most
//! [`SCANNED`] for one request, whose page then ends early and says where to go on.

use std::str::FromStr;

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

enum Order {
    Oldest,
    Newest,
}

impl FromStr for Order {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "oldest" => Ok(Self::Oldest),
            "newest" => Ok(Self::Newest),
            _ => Err(()),
        }
    }
}

/// Which records.
pub struct Asked {
    agent: Option<String>,
    environment: Option<String>,
    order: Order,
    /// The number of the record that the page comes after, in its order.
    after: Option<u64>,
    limit: usize,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut fields = Fields::from_request_parts(parts, state).await?;
        let asked = Self {
            agent: fields.one("agent"),
            environment: fields.one("environment"),
            order: fields.parsed("order", "oldest or newest").unwrap_or(Order::Oldest),
            after: fields.parsed("after", "the number of a record"),
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

    async fn read(&self, control: &Control) -> Result<Page<Record>, StoreError> {
        let (mut items, mut after) = (Vec::new(), self.after);
        for _ in 0..SCANNED / READ_AT_ONCE {
            let records = match self.order {
                Order::Oldest => control.audit(after.unwrap_or(0), READ_AT_ONCE).await?,
                Order::Newest => control.newest_audit(after, READ_AT_ONCE).await?,
            };
            // Not the first that is short: of a chain that was tampered with, what is left is shown.
            let is_end = records.is_empty();
            for record in records {
                if items.len() == self.limit {
                    return Ok(Page { items, next: cursor(after) });
                }
                after = Some(record.sequence);
                if self.wants(&record) {
                    items.push(record);
                }
            }
            if is_end {
                return Ok(Page { items, next: None });
            }
        }
        Ok(Page { items, next: cursor(after) })
    }
}

fn cursor(after: Option<u64>) -> Option<String> {
    after.map(|sequence| sequence.to_string())
}

pub async fn list(State(state): State<AdminState>, asked: Asked) -> Result<Json<Page<Record>>, Problem> {
    match asked.read(&state.control).await {
        Ok(page) => Ok(Json(page)),
        Err(error) => {
            tracing::error!(%error, "the audit cannot be read");
            Err(Problem::new(Kind::StoreUnavailable, "the store cannot be read; the log says why"))
        }
    }
}
