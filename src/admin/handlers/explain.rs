//! Which version a request would get, and why, asked by the same code that decides.
//!
//! `key=` places a bucketing key directly. Without it the key is looked for in the request that
//! `header=name:value` (repeatable), `host=`, `path=` (with its query), `method=` and `client=` describe; the
//! same parts also feed the rules and the audience. There is no body, so `json:` keys are given with `key=`. The
//! header of an override, a token or a conversation's id is looked at as the proxy would; no pin is changed by it.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::header::InvalidHeaderValue;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::place::Place;
use crate::admin::AdminState;
use crate::admin::error::{FieldError, Kind, Problem};
use crate::admin::query::Fields;
use crate::routing::decide::{self, Explanation};
use crate::routing::path;
use crate::routing::table::Head;
use crate::routing::{pin, standing};

pub async fn explain(State(state): State<AdminState>, asked: Asked) -> Result<Json<Explanation>, Problem> {
    let table = state.control.table().load_full();
    let agent = asked.place.find(&table)?;
    let path = path::normalise(&asked.path, (state.slashes)())
        .map_err(|error| Problem::fields(Kind::BadRequest, vec![FieldError::parameter("path", error.to_string())]))?;
    let head = asked.head(&path);
    let mut explanation = match &asked.key {
        Some(key) => decide::explain_key(agent, &head, table.epoch, key),
        None => decide::explain(agent, &head, table.epoch),
    };
    let now = pin::second(SystemTime::now());
    standing::explain(&mut explanation, agent, &head, &(state.known)(), now);
    Ok(Json(explanation))
}

/// The request that is asked about.
pub struct Asked {
    place: Place,
    key: Option<String>,
    method: Method,
    host: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    client: IpAddr,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let mut fields = Fields::from_request_parts(parts, state).await?;
        let place = Place::read(parts, state, &mut fields).await?;
        let asked = Self::read(place, &mut fields);
        fields.end().map(|()| asked)
    }
}

impl Asked {
    fn read(place: Place, fields: &mut Fields) -> Self {
        let path = fields.one("path").unwrap_or_else(|| "/".into());
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (path, None),
        };
        let mut headers = HeaderMap::new();
        let host: Option<HostName> = fields.parsed("host", "a host");
        if let Some(HostName(_, value)) = &host {
            headers.insert(header::HOST, value.clone());
        }
        for field in fields.all("header") {
            match header_of(&field) {
                Some((name, value)) => drop(headers.append(name, value)),
                None => fields.refuse("header", format!("{field:?} does not fit; expected name:value")),
            }
        }
        Self {
            place,
            key: fields.one("key"),
            method: fields.parsed("method", "an HTTP method").unwrap_or(Method::GET),
            host: host.map(|HostName(name, _)| name).unwrap_or_default(),
            path,
            query,
            headers,
            client: fields.parsed("client", "an IP address").unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }
    }

    /// With the path in its normal form.
    fn head<'a>(&'a self, path: &'a str) -> Head<'a> {
        Head {
            method: &self.method,
            host: &self.host,
            path,
            query: self.query.as_deref(),
            headers: &self.headers,
            client: self.client,
            certificate: None,
            json: None,
            nonce: 0,
        }
    }
}

/// As text, and as a header's value.
struct HostName(String, HeaderValue);

impl FromStr for HostName {
    type Err = InvalidHeaderValue;

    fn from_str(text: &str) -> Result<Self, InvalidHeaderValue> {
        Ok(Self(text.to_owned(), text.parse()?))
    }
}

fn header_of(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}
