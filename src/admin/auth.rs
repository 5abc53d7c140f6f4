//! Who may ask.
//!
//! With a token, every `/api` request must carry it. Probes and `/metrics` stay open: an orchestrator and a
//! scraper often cannot hold a secret, and neither page changes anything or shows more than names and figures.
//!
//! Without a token the port is on loopback only (the configuration sees to that), and the danger left is a web
//! page in the operator's own browser: a name that it makes resolve to 127.0.0.1, or a form posted across
//! sites. Both give themselves away in headers that a page cannot set.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header, uri::Authority};
use subtle::ConstantTimeEq;

use super::error::Problem;

/// The admin port's one credential, or none.
#[derive(Clone)]
pub struct Auth(Option<Arc<str>>);

/// Whom an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Says nothing but yes or no: for everyone.
    Probe,
    /// No token wanted, but no web page's business either.
    Scrape,
    Operator,
}

impl Auth {
    pub fn token(token: Arc<str>) -> Self {
        Self(Some(token))
    }

    /// For an address on loopback.
    pub fn loopback_only() -> Self {
        Self(None)
    }

    pub(super) fn check(&self, access: Access, request: &Request) -> Result<(), Problem> {
        match (access, &self.0) {
            (Access::Probe, _) | (Access::Scrape, Some(_)) => Ok(()),
            (Access::Operator, Some(token)) => has_token(request.headers(), token),
            (_, None) => is_local(request),
        }
    }
}

fn has_token(headers: &HeaderMap, token: &str) -> Result<(), Problem> {
    let sent = headers.get(header::AUTHORIZATION).ok_or_else(Problem::token_wanted)?;
    let (scheme, credential) = split_once(sent.as_bytes(), b' ').ok_or_else(Problem::token_wanted)?;
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Problem::token_wanted());
    }
    // Constant in time but for the length, which is no secret.
    let same: bool = credential.trim_ascii().ct_eq(token.as_bytes()).into();
    if same { Ok(()) } else { Err(Problem::wrong_token()) }
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = bytes.iter().position(|b| *b == at)?;
    Some((&bytes[..index], &bytes[index + 1..]))
}

fn is_local(request: &Request) -> Result<(), Problem> {
    let headers = request.headers();
    let sent = headers.get(header::HOST).and_then(|h| h.to_str().ok()).and_then(|h| h.parse::<Authority>().ok());
    let host = request.uri().authority().cloned().or(sent).ok_or_else(Problem::foreign_host)?;
    if !is_local_name(host.host()) {
        return Err(Problem::foreign_host());
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) || is_same_origin(headers, &host) {
        Ok(())
    } else {
        Err(Problem::cross_site())
    }
}

fn is_local_name(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// What is no browser sends neither header, and passes.
fn is_same_origin(headers: &HeaderMap, host: &Authority) -> bool {
    let site = headers.get("sec-fetch-site").map(|s| s.as_bytes());
    let origin = headers.get(header::ORIGIN).map(|o| o.as_bytes());
    let own = format!("http://{host}");
    matches!(site, None | Some(b"same-origin" | b"none"))
        && origin.is_none_or(|o| o.eq_ignore_ascii_case(own.as_bytes()))
}
