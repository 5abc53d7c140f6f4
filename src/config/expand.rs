//! `${NAME}`, `${NAME:-default}` and `$${` in scalars, after the YAML was parsed: a value from the
//! environment can hold any text and still never adds a key, a list or a line to the file.
//!
//! The same walk refuses what no later stage wants to see: keys given twice, merge keys, tags.

use std::cell::RefCell;
use std::collections::HashMap;

use zeroize::Zeroizing;

use super::errors::{Place, Report, shown};
use super::node::{Entry, Kind, Node, Scalar, Tone, Trail};

/// Looks up an environment variable.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands all of `tree`. What is wrong is reported and removed.
pub(super) fn expand(tree: &mut Node, env: Env<'_>, report: &mut Report) {
    let used = RefCell::new(Vec::new());
    let noted = |name: &str| env(name).inspect(|value| used.borrow_mut().push((name.to_owned(), value.clone())));
    walk(tree, &noted, report, &Trail::Root);
    used.into_inner().into_iter().for_each(|(name, value)| report.conceal(name, value));
}

fn walk(node: &mut Node, env: Env<'_>, report: &mut Report, trail: &Trail<'_>) {
    let at = node.at;
    match &mut node.kind {
        Kind::Scalar(scalar) => node.removed = !expand_scalar(scalar, at, env, report, trail),
        Kind::Seq(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, env, report, &Trail::Index(trail, index));
            }
        }
        Kind::Map(entries) => walk_map(entries, env, report, trail),
        Kind::Tagged(tag) => {
            let message = format!("the tag `{}` means nothing here; remove it, or quote the value", shown(tag));
            report.error(at, trail.to_string(), message);
            node.removed = true;
        }
    }
}

fn walk_map(entries: &mut [Entry], env: Env<'_>, report: &mut Report, trail: &Trail<'_>) {
    for Entry { key, value } in entries.iter_mut() {
        let Kind::Scalar(scalar) = &mut key.kind else {
            report.error(key.at, trail.to_string(), format!("expected a name as the key, found {}", key.described()));
            value.removed = true;
            continue;
        };
        if !expand_scalar(scalar, key.at, env, report, trail) {
            value.removed = true;
            continue;
        }
        if key.text() == "<<" {
            let message = "merge keys (`<<`) are not supported; write the keys out, or use an alias for a whole value";
            report.error(key.at, Trail::Key(trail, "<<").to_string(), message);
            value.removed = true;
            continue;
        }
        walk(value, env, report, &Trail::Key(trail, key.text()));
    }
    refuse_duplicates(entries, report, trail);
}

fn refuse_duplicates(entries: &mut [Entry], report: &mut Report, trail: &Trail<'_>) {
    let mut first: HashMap<&str, Place> = HashMap::with_capacity(entries.len());
    for Entry { key, value } in entries.iter_mut() {
        if let Some(earlier) = first.get(key.text()) {
            let path = Trail::Key(trail, key.text()).to_string();
            let message =
                format!("`{}` is given twice; it was first given on line {}", shown(key.text()), earlier.line);
            report.error(key.at, path, message);
            value.removed = true;
        } else {
            first.insert(key.text(), key.at);
        }
    }
}

/// Whether it could be expanded.
fn expand_scalar(scalar: &mut Scalar, at: Place, env: Env<'_>, report: &mut Report, trail: &Trail<'_>) -> bool {
    if scalar.tone != Tone::Text || !scalar.text.contains("${") {
        return true;
    }
    match expand_text(&scalar.text, env) {
        Ok(text) => {
            scalar.text = text;
            true
        }
        Err(message) => {
            report.error(at, trail.to_string(), message);
            false
        }
    }
}

fn expand_text(text: &str, env: Env<'_>) -> Result<String, String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(dollar) = rest.find("${") {
        let before = &rest[..dollar];
        let inside = &rest[dollar + 2..];
        if let Some(escaped) = before.strip_suffix('$') {
            out.push_str(escaped);
            out.push_str("${");
            rest = inside;
            continue;
        }
        out.push_str(before);
        let (reference, after) = inside.split_once('}').ok_or_else(|| {
            format!("`${{{}` is not closed; expected `${{NAME}}`, or `$${{` for the text itself", shown(inside))
        })?;
        out.push_str(&Zeroizing::new(value_of(reference, env)?));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(reference: &str, env: Env<'_>) -> Result<String, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let well_formed = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !well_formed {
        let message = "is no name of an environment variable; expected letters, digits and `_`, such as `${NAME}` or `${NAME:-default}`";
        return Err(format!("`{}` {message}", shown(name)));
    }
    // As in a shell: `:-` also stands in for a variable that is set to nothing.
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            Err(format!("the environment variable {name} is not set; set it, or give a default: `${{{name}:-value}}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".into()),
            "EMPTY" => Some(String::new()),
            "EVIL" => Some("x\nadmin: { token: no }".into()),
            _ => None,
        }
    }

    #[test]
    fn references_become_values() {
        let cases = [
            ("a", "a"),
            ("${PORT}", "8080"),
            ("0.0.0.0:${PORT}!", "0.0.0.0:8080!"),
            ("${PORT}${PORT}", "80808080"),
            ("${NONE:-7}", "7"),
            ("${NONE:-}", ""),
            ("${EMPTY:-7}", "7"),
            ("${EMPTY}", ""),
            ("$${PORT}", "${PORT}"),
            ("$${PORT}${PORT}", "${PORT}8080"),
            ("$PORT", "$PORT"),
            ("a$", "a$"),
            ("${EVIL}", "x\nadmin: { token: no }"),
        ];
        for (text, want) in cases {
            assert_eq!(expand_text(text, &env).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn a_bad_reference_says_what_to_do() {
        for (text, part) in
            [("${NONE}", "NONE is not set"), ("${PORT", "not closed"), ("${}", "no name"), ("${a b}", "no name")]
        {
            let message = expand_text(text, &env).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
