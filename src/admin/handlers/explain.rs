//! Which version a request would get, and why, asked by the same code that decides.
//!
//! `key=` places a bucketing key directly. Without it the key is looked for in the request that
//! `header=name:value` (repeatable), `host=`, `path=` (with its query), `method=` and `client=` describe; the
//! same parts also feed the rules and the audience. There is no body, so `json:` keys are given with `key=`.

use std::net::{IpAddr, Ipv4Addr};

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::place::{Parameters, Place, agent_name};
use crate::admin::AdminState;
use crate::admin::error::Problem;
use crate::routing::decide::{self, Explanation};
use crate::routing::table::Head;

const PARAMETERS: &str = "environment, key, header, host, path, method, client";

pub async fn explain(State(state): State<AdminState>, asked: Asked) -> Result<Json<Explanation>, Problem> {
    let table = state.control.table().load_full();
    let agent = asked.place.find(&table)?;
    Ok(Json(match &asked.key {
        Some(key) => decide::explain_key(agent, &asked.head(), table.epoch, key),
        None => decide::explain(agent, &asked.head(), table.epoch),
    }))
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
        let name = agent_name(parts, state).await?;
        Self::read(name, Parameters::from_request_parts(parts, state).await?)
    }
}

impl Asked {
    fn read(name: String, mut parameters: Parameters) -> Result<Self, Problem> {
        let mut asked = Self {
            place: Place::new(name, &mut parameters)?,
            key: None,
            method: Method::GET,
            host: String::new(),
            path: "/".into(),
            query: None,
            headers: HeaderMap::new(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        for (name, value) in parameters.0 {
            asked.take(&name, value).map_err(Problem::bad_request)?;
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "key" => self.key = Some(value),
            "method" => self.method = value.parse().map_err(|_| format!("method={value} is no HTTP method"))?,
            "host" => {
                self.headers.insert(header::HOST, value.parse().map_err(|_| format!("host={value} is no host"))?);
                self.host = value;
            }
            "path" => match value.split_once('?') {
                Some((path, query)) => (self.path, self.query) = (path.to_owned(), Some(query.to_owned())),
                None => (self.path, self.query) = (value, None),
            },
            "client" => self.client = value.parse().map_err(|_| format!("client={value} is no IP address"))?,
            "header" => {
                let (name, value) = header_of(&value).ok_or_else(|| format!("header={value} is not name:value"))?;
                self.headers.append(name, value);
            }
            other => return Err(format!("no parameter is named {other:?}; there are {PARAMETERS}")),
        }
        Ok(())
    }

    fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            client: self.client,
            json: None,
            nonce: 0,
        }
    }
}

fn header_of(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}
