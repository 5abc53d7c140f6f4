//! Health checks: one kind each, and values that can be sent.

use std::time::Duration;

use http::{HeaderValue, Method, header};

use super::super::errors::shown;
use super::super::file;
use super::super::scalar::Text;
use super::scope::Scope;
use crate::control::health::{CheckKind, HealthCheck, HttpCheck, NAMES};
use crate::control::template;

const MAX_CHECKS: usize = 16;
const MAX_ARGUMENTS: usize = 64;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_RETRIES: u64 = 2;

/// Those that are right; what is wrong with the others is reported. `path` is where the list stands.
pub(super) fn check(given: Vec<file::HealthCheck>, path: &str, scope: &mut Scope<'_, '_>) -> Vec<HealthCheck> {
    if given.len() > MAX_CHECKS {
        scope.error(path, format!("{} checks; expected at most {MAX_CHECKS}", given.len()));
    }
    let mut checks = Vec::with_capacity(given.len());
    for (position, check) in scope.positions(path).1.into_iter().zip(given) {
        let path = format!("{path}[{position}]");
        if !scope.is_damaged(&path) {
            checks.extend(one(check, &path, scope));
        }
    }
    checks
}

fn one(given: file::HealthCheck, path: &str, scope: &mut Scope<'_, '_>) -> Option<HealthCheck> {
    let at = |key: &str| format!("{path}.{key}");
    let kind = match (given.http, given.tcp, given.command) {
        (Some(check), None, None) => http(check, &at("http"), scope),
        (None, Some(_), None) => Some(CheckKind::Tcp),
        (None, None, Some(argv)) => command(argv, &at("command"), scope),
        (None, None, None) => {
            scope.error(path, "the check does not say what to ask; expected `http: {}`, `tcp: {}` or `command: [...]`");
            None
        }
        _ => {
            scope.error(path, "a check asks one thing; expected one of `http`, `tcp` and `command`");
            None
        }
    };
    const HOUR: Duration = Duration::from_secs(3600);
    const TENTH: Duration = Duration::from_millis(100);
    let interval = scope.duration(&at("interval"), given.interval, DEFAULT_INTERVAL, TENTH..=HOUR);
    let timeout = scope.duration(&at("timeout"), given.timeout, DEFAULT_TIMEOUT, Duration::from_millis(10)..=HOUR / 12);
    let retries = scope.count(&at("retries"), given.retries, DEFAULT_RETRIES, 0..=100) as u32;
    let successes = scope.count(&at("successes"), given.successes, 1, 1..=100) as u32;
    Some(HealthCheck { kind: kind?, interval, timeout, retries, successes })
}

fn http(given: file::HttpCheck, path: &str, scope: &mut Scope<'_, '_>) -> Option<CheckKind> {
    let mut sound = true;
    let mut wrong = |key: &str, message: String| {
        scope.error(&format!("{path}.{key}"), message);
        sound = false;
    };
    let target = given.path.map_or_else(|| "/".to_owned(), |Text(target)| target);
    if !target.starts_with('/') || target.parse::<http::uri::PathAndQuery>().is_err() || target.contains('#') {
        wrong("path", format!("`{}` is no path; expected one such as /healthz", shown(&target)));
    }
    let method = given.method.map_or_else(|| "GET".to_owned(), |Text(method)| method);
    let known = Method::from_bytes(method.as_bytes()).is_ok_and(|method| method != Method::CONNECT);
    if !known || method.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong("method", format!("`{}` is no method to ask with; expected one such as GET or HEAD", shown(&method)));
    }
    let host = given.host.map(|Text(host)| host);
    if let Some(host) = host.as_ref().filter(|host| !is_host(host)) {
        wrong("host", format!("`{}` is no host; expected one such as agent.internal", shown(host)));
    }
    let mut headers = Vec::new();
    for (name, Text(value)) in given.headers.map_or_else(Vec::new, |headers| headers.0) {
        let key = format!("headers.{name}");
        if [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(&name) {
            wrong(&key, "is set by the check itself; remove it, and name another host by `host`".into());
        } else if HeaderValue::from_str(&value).is_err() {
            wrong(&key, format!("`{}` is no value of a header; expected visible ASCII characters", shown(&value)));
        }
        headers.push((name.as_str().to_owned(), value));
    }
    let status = given.status.map(|Text(status)| status).unwrap_or_default();
    sound.then_some(CheckKind::Http(HttpCheck { method, path: target, status, host, headers }))
}

fn is_host(text: &str) -> bool {
    text.parse::<http::uri::Authority>().is_ok() && !text.contains('@')
}

fn command(given: Vec<Text<String>>, path: &str, scope: &mut Scope<'_, '_>) -> Option<CheckKind> {
    let argv: Vec<String> = given.into_iter().map(|Text(part)| part).collect();
    if scope.is_damaged(path) {
        return None;
    }
    if argv.is_empty() || argv.len() > MAX_ARGUMENTS || argv[0].is_empty() {
        let message = format!(
            "expected a program and its arguments, at most {MAX_ARGUMENTS} in all, such as [/usr/local/bin/probe, \"{{{{endpoint}}}}\"]"
        );
        scope.error(path, message);
        return None;
    }
    let mut sound = true;
    for (position, part) in argv.iter().enumerate() {
        let fault =
            if part.contains('\0') { Err("expected no NUL in it".to_owned()) } else { template::check(part, &NAMES) };
        if let Err(message) = fault {
            scope.error(&format!("{path}[{position}]"), message);
            sound = false;
        }
    }
    sound.then_some(CheckKind::Command(argv))
}
