//! Who may ask.
//!
//! There are two kinds of credentials: `admin.token` of the configuration, which may do everything, and the
//! [`super::tokens`] of `pointsman token`, each with a role. Where there is either, every `/api` request must
//! carry one. Probes and `/metrics` stay open: an orchestrator and a scraper often cannot hold a secret, and
//! neither page changes anything or shows more than names and figures.
//!
//! Without any the port is on loopback only (the configuration sees to that), and the danger left is a web
//! page in the operator's own browser: a name that it makes resolve to 127.0.0.1, or a form posted across
//! sites. Both give themselves away in headers that a page cannot set.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header, uri::Authority};

use super::error::Problem;
use super::tokens::live::{LiveTokens, Unreadable};
use super::tokens::{Fingerprint, Role, Token};

/// What a credential may be.
#[derive(Clone, Default)]
pub struct Auth {
    /// Of `admin.token`.
    admin: Option<Fingerprint>,
    tokens: Option<LiveTokens>,
}

/// Whom an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Says nothing but yes or no: for everyone.
    Probe,
    /// No token wanted, but no web page's business either.
    Scrape,
    /// This role, and those above it.
    Api(Role),
}

/// Where a connection comes from; the server puts it into each request.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub SocketAddr);

/// Who asks, for the audit trail.
#[derive(Clone, Debug)]
pub struct Caller {
    /// A token's name, `admin.token`, or `local`.
    pub name: Arc<str>,
    pub role: Role,
    /// The remote address.
    pub source: Arc<str>,
}

impl Auth {
    /// `None`: there is no `admin.token`.
    pub fn new(admin_token: Option<&str>, tokens: Option<LiveTokens>) -> Self {
        Self { admin: admin_token.map(|token| Fingerprint::of(token.as_bytes())), tokens }
    }

    pub async fn tokens(&self) -> Result<Arc<[Token]>, Unreadable> {
        match &self.tokens {
            Some(tokens) => tokens.current().await.map(Option::unwrap_or_default),
            None => Ok([].into()),
        }
    }

    pub(super) async fn check(&self, access: Access, request: &Parts) -> Result<Caller, Problem> {
        let tokens = match &self.tokens {
            Some(tokens) if access != Access::Probe => tokens.current().await,
            _ => Ok(None),
        };
        let is_open = self.admin.is_none() && tokens == Ok(None);
        let caller = |name: &str, role| Caller { name: name.into(), role, source: source(request) };
        let role = match access {
            Access::Probe => return Ok(caller("anyone", Role::Viewer)),
            _ if is_open => return is_local(request).map(|()| caller("local", Role::Admin)),
            Access::Scrape => return Ok(caller("anyone", Role::Viewer)),
            Access::Api(role) => role,
        };
        let sent = Fingerprint::of(bearer(&request.headers)?);
        if self.admin == Some(sent) {
            return Ok(caller("admin.token", Role::Admin));
        }
        let tokens = tokens.map_err(|_| Problem::tokens_unreadable())?.unwrap_or_default();
        // All of them are compared, so that the time says nothing of where in the list a token stands.
        let fits = tokens.iter().fold(None, |found, token| if token.sha256 == sent { Some(token) } else { found });
        let token = fits.ok_or_else(Problem::wrong_token)?;
        if token.is_expired(SystemTime::now()) {
            return Err(Problem::expired_token(token));
        }
        if token.role < role {
            return Err(Problem::role_too_low(token, role));
        }
        Ok(caller(token.name.as_str(), token.role))
    }
}

fn source(request: &Parts) -> Arc<str> {
    request.extensions.get::<Remote>().map_or_else(|| "unknown".into(), |Remote(address)| address.to_string().into())
}

fn bearer(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let sent = headers.get(header::AUTHORIZATION).ok_or_else(Problem::token_wanted)?.as_bytes();
    let space = sent.iter().position(|b| *b == b' ').ok_or_else(Problem::token_wanted)?;
    let (scheme, credential) = sent.split_at(space);
    if scheme.eq_ignore_ascii_case(b"bearer") { Ok(credential.trim_ascii()) } else { Err(Problem::token_wanted()) }
}

fn is_local(request: &Parts) -> Result<(), Problem> {
    let headers = &request.headers;
    let sent = headers.get(header::HOST).and_then(|h| h.to_str().ok()).and_then(|h| h.parse::<Authority>().ok());
    let host = request.uri.authority().cloned().or(sent).ok_or_else(Problem::foreign_host)?;
    if !is_local_name(host.host()) {
        return Err(Problem::foreign_host());
    }
    if matches!(request.method, Method::GET | Method::HEAD) || is_same_origin(headers, &host) {
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
