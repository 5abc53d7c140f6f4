//! Lines and columns for a [`Node`] tree, from a second reading of the same text as YAML events.
//!
//! Only text that `serde_yaml` has accepted is read here. Where the two readings should ever differ
//! in shape, a part keeps the place of the nearest ancestor on which they agree.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser};

use super::errors::Place;
use super::node::{Kind, Node, Tone};

struct Mark {
    at: Place,
    kind: MarkKind,
}

enum MarkKind {
    /// As it was spelled.
    Scalar(String),
    Seq(Vec<Mark>),
    Map(Vec<(Mark, Mark)>),
    /// To the anchor of this number.
    Alias(usize),
    /// Stands in for a node that carries an anchor.
    Anchored(usize),
}

type Anchors = HashMap<usize, Mark>;

/// Gives every part of `tree` its place in `text`, and numbers their own spelling.
pub(super) fn place(tree: &mut Node, text: &str) {
    let mut anchors = Anchors::new();
    if let Some(mark) = read(text, &mut anchors) {
        settle(tree, &mark, &anchors);
    }
}

/// A collection that has begun and not ended.
struct Open {
    at: Place,
    anchor: usize,
    items: Vec<Mark>,
    is_map: bool,
}

/// `None` where the text is no YAML for this parser, or empty.
fn read(text: &str, anchors: &mut Anchors) -> Option<Mark> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    loop {
        let (event, span) = parser.next_event()?.ok()?;
        let at = place_of(span.start);
        let (mark, anchor) = match event {
            Event::Scalar(spelling, _, anchor, _) => {
                (Mark { at, kind: MarkKind::Scalar(spelling.into_owned()) }, anchor)
            }
            Event::Alias(target) => (Mark { at, kind: MarkKind::Alias(target) }, 0),
            Event::SequenceStart(anchor, _) => {
                open.push(Open { at, anchor, items: Vec::new(), is_map: false });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open { at, anchor, items: Vec::new(), is_map: true });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let mut done = open.pop()?;
                (Mark { at: done.at, kind: done.kind() }, done.anchor)
            }
            Event::StreamEnd => return None,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => continue,
        };
        let mark = if anchor == 0 {
            mark
        } else {
            let at = mark.at;
            anchors.insert(anchor, mark);
            Mark { at, kind: MarkKind::Anchored(anchor) }
        };
        match open.last_mut() {
            Some(parent) => parent.items.push(mark),
            None => return Some(mark),
        }
    }
}

impl Open {
    fn kind(&mut self) -> MarkKind {
        let items = std::mem::take(&mut self.items);
        if !self.is_map {
            return MarkKind::Seq(items);
        }
        let mut pairs = Vec::with_capacity(items.len() / 2);
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            pairs.push((key, value));
        }
        MarkKind::Map(pairs)
    }
}

fn place_of(marker: Marker) -> Place {
    let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: bounded(marker.line()), column: bounded(marker.col() + 1) }
}

fn settle(node: &mut Node, mark: &Mark, anchors: &Anchors) {
    node.at = mark.at;
    match (&mut node.kind, &mark.kind) {
        // Each alias leads to an anchor before it, so that this ends; its parts stand where their text is.
        (_, MarkKind::Alias(target) | MarkKind::Anchored(target)) => match anchors.get(target) {
            Some(target) => {
                settle(node, target, anchors);
                node.at = mark.at;
            }
            None => inherit(node, mark.at),
        },
        (Kind::Scalar(scalar), MarkKind::Scalar(spelling)) => {
            if scalar.tone != Tone::Text {
                scalar.text.clone_from(spelling);
            }
        }
        (Kind::Seq(items), MarkKind::Seq(marks)) if items.len() == marks.len() => {
            for (item, mark) in items.iter_mut().zip(marks) {
                settle(item, mark, anchors);
            }
        }
        (Kind::Map(entries), MarkKind::Map(marks)) if entries.len() == marks.len() => {
            for (entry, (key, value)) in entries.iter_mut().zip(marks) {
                settle(&mut entry.key, key, anchors);
                settle(&mut entry.value, value, anchors);
            }
        }
        _ => inherit(node, mark.at),
    }
}

fn inherit(node: &mut Node, at: Place) {
    node.at = at;
    match &mut node.kind {
        Kind::Seq(items) => items.iter_mut().for_each(|item| inherit(item, at)),
        Kind::Map(entries) => entries.iter_mut().for_each(|entry| {
            inherit(&mut entry.key, at);
            inherit(&mut entry.value, at);
        }),
        Kind::Scalar(_) | Kind::Tagged(_) => {}
    }
}

/// Place and message of what `serde_yaml` found, with a hint where the usual slip is to be seen.
pub(super) fn syntax_error(text: &str, error: &serde_yaml::Error) -> (Place, String) {
    let bounded = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let place = match error.location() {
        Some(at) => Place { line: bounded(at.line()), column: bounded(at.column()) },
        None => second_document(text).unwrap_or(Place::START),
    };
    let message = error.to_string().replace(&format!(" at line {} column {}", place.line, place.column), "");
    if message.contains("more than one document") {
        return (place, "a second document begins here; expected one document per file".into());
    }
    let hint = hint(text, place, &message).map(|hint| format!("; {hint}")).unwrap_or_default();
    (place, format!("not YAML: {message}{hint}"))
}

fn hint(text: &str, place: Place, message: &str) -> Option<&'static str> {
    let line = text.lines().nth(place.line as usize - 1)?;
    let indent = &line[..line.len() - line.trim_start().len()];
    if indent.contains('\t') {
        return Some("tabs cannot indent YAML, use spaces");
    }
    if message.contains("scanning an alias") || message.contains("unknown anchor") {
        return Some("a value that begins with `*` needs quotes, such as \"*.example.com\"");
    }
    None
}

/// Where the second document begins.
fn second_document(text: &str) -> Option<Place> {
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    loop {
        match parser.next_event()?.ok()? {
            (Event::DocumentStart(_), span) => {
                documents += 1;
                if documents == 2 {
                    return Some(place_of(span.start));
                }
            }
            (Event::StreamEnd, _) => return None,
            _ => {}
        }
    }
}
