//! What is wrong with a file: every error at once, each with its place, in the form that editors
//! and compilers share: `file:line:column: path: message`.
//!
//! Errors go to logs and to the API, so they repeat no secret: what the environment gave is named and not shown, and
//! a URL is shown without its user and password.
//!
//! Bound: the first [`MAX_ERRORS`] are kept; of the rest one only learns that there are more.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// A file with more errors than this is hardly a configuration.
pub const MAX_ERRORS: usize = 100;

/// Line and column, both counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
    pub line: u32,
    pub column: u32,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// As it was given on the command line.
    pub file: Arc<str>,
    /// `None` where the file could not be read at all.
    pub place: Option<Place>,
    /// `agents.support-bot.deployment.steps[1].weight`; empty for the file as a whole.
    pub path: String,
    /// What is wrong, what was expected, and the nearest right name where there is one.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Place { line, column }) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Never empty; in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    /// More than [`MAX_ERRORS`] were found.
    truncated: bool,
}

impl ConfigErrors {
    /// One error about the file itself.
    pub(super) fn of_file(file: &str, message: String) -> Self {
        let error = ConfigError { file: file.into(), place: None, path: String::new(), message };
        Self { errors: vec![error], truncated: false }
    }

    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.errors.iter()
    }
}

impl fmt::Display for ConfigErrors {
    /// One line per error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        match self.errors.first() {
            Some(first) if self.truncated => {
                write!(f, "\n{}: there are more errors; the first {MAX_ERRORS} are shown", first.file)
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects errors while a file is read; each stage adds its own.
pub(super) struct Report {
    file: Arc<str>,
    errors: Vec<ConfigError>,
    truncated: bool,
    /// What the environment gave, by name.
    concealed: Vec<(String, Zeroizing<String>)>,
}

/// Less is no secret, and is found in too many words.
const CONCEALED_BYTES_MIN: usize = 8;

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.into(), errors: Vec::new(), truncated: false, concealed: Vec::new() }
    }

    /// From now on errors say `${NAME}` in the place of this value: it may be a secret, also where it is none.
    pub(super) fn conceal(&mut self, name: String, value: String) {
        // Also as errors show it: without control characters, and without the space around it.
        let shown = Zeroizing::new(value.replace(char::is_control, " "));
        let bare = Zeroizing::new(shown.trim().to_owned());
        for value in [Zeroizing::new(value), shown, bare] {
            let is_new = self.concealed.last().is_none_or(|(_, last)| *last != value);
            if value.len() >= CONCEALED_BYTES_MIN && is_new {
                self.concealed.push((name.clone(), value));
            }
        }
    }

    pub(super) fn error(&mut self, place: Place, path: impl Into<String>, message: impl Into<String>) {
        if self.is_full() {
            return;
        }
        let (path, message) = (path.into(), self.without_secrets(&message.into()));
        self.errors.push(ConfigError { file: self.file.clone(), place: Some(place), path, message });
    }

    fn without_secrets(&self, message: &str) -> String {
        let message = without_userinfo(message).into_owned();
        self.concealed.iter().fold(message, |message, (name, value)| without(value, &format!("${{{name}}}"), message))
    }

    /// Whether there is no room for one more. To ask is to have one more.
    pub(super) fn is_full(&mut self) -> bool {
        self.truncated |= self.errors.len() >= MAX_ERRORS;
        self.truncated
    }

    /// The value if nothing was reported, otherwise what was.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigErrors> {
        if let (Some(value), true) = (value, self.errors.is_empty()) {
            return Ok(value);
        }
        if self.errors.is_empty() {
            // Each stage that gives up reports why; this only keeps the promise of `ConfigErrors`.
            self.error(Place::START, "", "the file is no configuration");
        }
        self.errors.sort_by_key(|error| error.place);
        self.errors.dedup();
        Err(ConfigErrors { errors: self.errors, truncated: self.truncated })
    }
}

/// The known name that `name` was most likely meant to be.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any slip of a name of ours, and the distance is quadratic.
    const LONGEST: usize = 64;
    let known = known.into_iter().filter(|known| known.len() <= LONGEST);
    if name.len() > LONGEST { None } else { crate::routing::parse::nearest(name, known) }
}

/// What there is to choose from, and which of it was most likely meant: the end of a message.
pub(super) fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    const SHOWN: usize = 16;
    let meant = nearest(name, known.clone()).map(|best| format!("; did you mean `{best}`?")).unwrap_or_default();
    let mut names: Vec<&str> = known.into_iter().take(SHOWN + 1).collect();
    if names.len() > SHOWN {
        names[SHOWN] = "…";
    }
    match names.as_slice() {
        [] => meant,
        [_] if !meant.is_empty() => meant,
        [only] => format!("; expected `{only}`{meant}"),
        names => format!("; expected one of {}{meant}", names.join(", ")),
    }
}

/// `text` as it may be shown in a message: one line, not too long.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let text = without_userinfo(text);
    let mut line: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push('…');
    }
    line
}

/// The message with `name` in the place of `value`, also where [`shown`] has cut that off.
fn without(value: &str, name: &str, message: String) -> String {
    let message = message.replace(value, name);
    let Some((head, rest)) = message.split_once('…') else { return message };
    let beginnings = value.char_indices().rev().map(|(end, _)| &value[..end]);
    let mut long_ones = beginnings.take_while(|beginning| beginning.len() >= CONCEALED_BYTES_MIN);
    match long_ones.find_map(|beginning| head.strip_suffix(beginning)) {
        Some(head) => format!("{head}{name}…{rest}"),
        None => message,
    }
}

/// The text, its URLs without user and password.
fn without_userinfo(text: &str) -> Cow<'_, str> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("://").map(|at| at + 3) {
        let end = rest[start..].find(['/', '?', '#', ' ', '`']).map_or(rest.len(), |length| start + length);
        let host = rest[start..end].rfind('@').map(|at| start + at);
        out.push_str(&rest[..start]);
        if host.is_some() {
            out.push('…');
        }
        out.push_str(&rest[host.unwrap_or(start)..end]);
        rest = &rest[end..];
    }
    if out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["host", "path_prefix", "headers"];
        let cases = [
            ("hots", Some("host")),
            ("Host", Some("host")),
            ("header", Some("headers")),
            ("path-prefix", Some("path_prefix")),
            ("color", None),
            ("", None),
        ];
        for (name, want) in cases {
            assert_eq!(nearest(name, known), want, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
    }

    #[test]
    fn a_url_is_shown_without_user_and_password() {
        for (text, expected) in [
            ("`http://me:secret@host:80/x` is wrong", "`http://…@host:80/x` is wrong"),
            ("http://a@b http://c:d@e", "http://…@b http://…@e"),
            ("http://p@ss@host", "http://…@host"),
            ("http://host/a@b, me@example.com", "http://host/a@b, me@example.com"),
            ("no URL", "no URL"),
        ] {
            assert_eq!(without_userinfo(text), expected);
        }
        assert!(!shown(&format!("http://me:{}@host", "secret".repeat(20))).contains("secret"));
    }

    #[test]
    fn what_the_environment_gave_is_named_and_not_shown() {
        let secret = "s3cr3t-".repeat(20);
        let said = |message: String| {
            let mut report = Report::new("f.yaml");
            report.conceal("TOKEN".into(), secret.clone());
            report.conceal("SHORT".into(), "8080".into());
            report.error(Place::START, "a", message);
            report.finish(None::<()>).unwrap_err().to_string()
        };
        assert_eq!(said(format!("`{secret}` is no port; 8080 is")), "f.yaml:1:1: a: `${TOKEN}` is no port; 8080 is");
        let cut = said(format!("`{}` is no port", shown(&format!("x {secret}"))));
        assert_eq!(cut, "f.yaml:1:1: a: `x ${TOKEN}…` is no port");
    }

    #[test]
    fn errors_come_in_the_order_of_the_file_and_end_at_the_bound() {
        let mut report = Report::new("f.yaml");
        for line in (1..=MAX_ERRORS as u32 + 5).rev() {
            report.error(Place { line, column: 1 }, "a.b", "wrong");
        }
        let errors = report.finish(Some(())).unwrap_err();
        let text = errors.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), MAX_ERRORS + 1);
        assert_eq!(lines[0], "f.yaml:6:1: a.b: wrong");
        assert!(lines[MAX_ERRORS].contains("more errors"));
    }
}
