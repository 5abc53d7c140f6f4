//! What went wrong, as the operator is told of it: what, where, and what to do about it.

use std::fmt;

use serde::Deserialize;
use serde_json::{Value, json};

use super::server::Server;
use super::text::plain;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The server said no.
    Refused(Box<Refusal>),
    /// No connection, so nothing was done.
    Unreachable { server: Server, why: String },
    /// The request went out, and no whole answer came back.
    Lost { server: Server, why: String, changes: bool },
    /// What answered is no instance of Pointsman, or one that this client does not understand.
    Foreign { server: Server, why: String },
    /// Nothing was sent.
    Here(anyhow::Error),
}

/// A problem document (RFC 9457), and the request that it answers.
#[derive(Debug)]
pub struct Refusal {
    pub problem: Problem,
    /// As it came, for `--json`.
    pub document: Value,
}

/// Of a problem document, what people are shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub title: String,
    pub status: u16,
    pub detail: String,
    pub code: String,
    pub errors: Vec<FieldError>,
}

/// One wrong part of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct FieldError {
    pointer: Option<String>,
    parameter: Option<String>,
    header: Option<String>,
    message: String,
}

impl Failure {
    /// For `--json`: the server's problem document, or one of the same shape.
    pub fn document(&self) -> Value {
        let (code, title) = match self {
            Self::Refused(refusal) => return refusal.document.clone(),
            Self::Unreachable { .. } => ("unreachable", "The server cannot be reached"),
            Self::Lost { .. } => ("answer_lost", "The answer was lost"),
            Self::Foreign { .. } => ("not_understood", "The answer is not understood"),
            Self::Here(_) => ("not_sent", "The request was not sent"),
        };
        json!({ "type": format!("urn:pointsman:problem:{code}"), "title": title, "code": code, "detail": self.to_string() })
    }

    /// Whether asking again may help: the server was not there, or broke off.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => true,
            Self::Refused(refusal) => refusal.problem.status == 503 || refusal.problem.status == 408,
            Self::Foreign { .. } | Self::Here(_) => false,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Here(error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.problem.fmt(f),
            Self::Unreachable { server, why } => write!(
                f,
                "cannot connect to {server}: {why}\n  Is `pointsman run` running there, and is this its admin.address? \
                 Name another with --server or POINTSMAN_SERVER."
            ),
            Self::Lost { server, why, changes } => {
                write!(f, "{server} gave no whole answer: {why}")?;
                if *changes {
                    write!(f, "\n  Whether it did what was asked is not known; `pointsman ctl status` shows it.")?;
                }
                Ok(())
            }
            Self::Foreign { server, why } => write!(
                f,
                "what answers at {server} is not understood: {why}\n  Is this the admin port, and not a listener of \
                 the proxy, and of the same version as this program?"
            ),
            Self::Here(error) => write!(f, "{error:#}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", plain(&self.title), self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", plain(&self.code))?;
        }
        write!(f, ")")?;
        if self.errors.is_empty() && !self.detail.is_empty() {
            write!(f, "\n  {}", plain(&self.detail))?;
        }
        for error in &self.errors {
            write!(f, "\n  {error}")?;
        }
        match self.remedy() {
            Some(remedy) => write!(f, "\n  {remedy}"),
            None => Ok(()),
        }
    }
}

impl Problem {
    /// What the server cannot know: how this program is told what is missing.
    fn remedy(&self) -> Option<&'static str> {
        Some(match (self.status, self.code.as_str()) {
            (401, _) => "Give a token with --token-file, --token or POINTSMAN_TOKEN.",
            (_, "which_environment") => "Name one with --environment or POINTSMAN_ENVIRONMENT.",
            (_, "role_too_low") => "Give another token with --token-file, --token or POINTSMAN_TOKEN.",
            (409, _) => "`pointsman ctl status AGENT` shows how it stands now.",
            _ => return None,
        })
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = [&self.pointer, &self.parameter, &self.header].into_iter().flatten().next();
        match place {
            Some(place) if !place.is_empty() => write!(f, "{}: {}", plain(place), plain(&self.message)),
            _ => f.write_str(&plain(&self.message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(document: Value) -> String {
        let problem: Problem = serde_json::from_value(document).unwrap();
        problem.to_string()
    }

    #[test]
    fn a_problem_shows_its_title_its_detail_and_the_remedy() {
        let text = shown(json!({ "title": "The token is not known", "status": 401, "code": "wrong_token",
            "detail": "the bearer token is not configured" }));
        assert_eq!(
            text,
            "The token is not known (401 wrong_token)\n  the bearer token is not configured\n  Give a token with \
             --token-file, --token or POINTSMAN_TOKEN."
        );
    }

    #[test]
    fn every_field_error_is_shown_and_the_detail_that_repeats_them_is_not() {
        let text = shown(json!({ "title": "Some fields are wrong", "status": 422, "code": "invalid_fields",
            "detail": "/steps: a; dryRun=: b", "errors": [
                { "pointer": "/steps/0/weight", "message": "120% is more than 100%" },
                { "parameter": "dryRun", "message": "expected true or false" },
                { "pointer": "", "message": "expected an object" } ] }));
        assert_eq!(
            text,
            "Some fields are wrong (422 invalid_fields)\n  /steps/0/weight: 120% is more than 100%\n  dryRun: \
             expected true or false\n  expected an object"
        );
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        let text = shown(json!({ "title": "No\u{1b}[2J", "status": 409, "detail": "by \u{7}mallory\r" }));
        assert!(!text.contains(['\u{1b}', '\u{7}', '\r']), "{text:?}");
    }

    #[test]
    fn without_a_document_of_the_server_one_of_the_same_shape_is_made() {
        let server: Server = "http://127.0.0.1:9".parse().unwrap();
        let failure = Failure::Unreachable { server, why: "connection refused".into() };
        assert_eq!(failure.document()["code"], "unreachable");
        assert!(failure.document()["detail"].as_str().unwrap().contains("http://127.0.0.1:9: connection refused"));
    }
}
