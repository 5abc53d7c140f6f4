//! Text for a terminal or a pipe: aligned tables, colour only where it is wanted, and nothing in what others
//! wrote that a terminal would obey.
//!
//! Widths are counted in characters: names here are ASCII by their own rules, and free text comes last in a row.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::time::{Duration, SystemTime};

/// For what is not there.
pub const NONE: &str = "-";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Plain,
    Bold,
    Green,
    Yellow,
    Red,
}

impl Colour {
    /// Of a deployment's state, a verdict or the kind of an event.
    pub fn of(word: &str) -> Self {
        match word {
            "completed" | "pass" | "healthy" | "migration_completed" | "drained" => Self::Green,
            "rolled_back" | "aborted" | "breach" | "unhealthy" | "ejected" | "open" => Self::Red,
            "paused" | "waiting" | "kept" | "half_open" => Self::Yellow,
            _ => Self::Plain,
        }
    }
}

/// Whether to colour what is written.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    coloured: bool,
}

impl Style {
    pub fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { coloured: io::stdout().is_terminal() && !dumb && !set("NO_COLOR") }
    }

    pub fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Plain => "",
            Colour::Bold => "1",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
        };
        if self.coloured && !code.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Without the control characters, which a terminal would obey: names and reasons come from other people.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        Cow::Owned(text.replace(char::is_control, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

pub struct Cell {
    text: String,
    colour: Colour,
}

impl Cell {
    /// Coloured by what the word says.
    pub fn state(word: &str) -> Self {
        Self { text: plain(word).into_owned(), colour: Colour::of(word) }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        let text = text.as_ref();
        let text = if text.is_empty() { NONE.to_owned() } else { plain(text).into_owned() };
        Self { text, colour: Colour::Plain }
    }
}

/// Columns two spaces apart, under headings; the last one is as long as it is.
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub fn new<const N: usize>(headings: [&'static str; N]) -> Self {
        Self { headings: headings.to_vec(), rows: Vec::new() }
    }

    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.rows.push(cells.into());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn render(&self, style: Style) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.chars().count());
            cells.chain([self.headings[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.headings.len()).map(width).collect();
        let mut out = String::new();
        let heading = |heading: &&'static str| Cell { text: (*heading).to_owned(), colour: Colour::Bold };
        line(&mut out, &widths, &self.headings.iter().map(heading).collect::<Vec<_>>(), style);
        for row in &self.rows {
            line(&mut out, &widths, row, style);
        }
        out
    }
}

fn line(out: &mut String, widths: &[usize], cells: &[Cell], style: Style) {
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let painted = style.paint(cell.colour, &cell.text);
        let gap = if index + 1 == cells.len() { 0 } else { width - cell.text.chars().count() + 2 };
        let _ = write!(out, "{painted}{:gap$}", "");
    }
    out.push('\n');
}

/// `name  value` lines, the values in one column.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    pairs.iter().fold(String::new(), |mut out, (name, value)| {
        let _ = writeln!(out, "{name:<width$}  {}", plain(value));
        out
    })
}

/// `5%`, to the 0.001 % that weights are counted in.
pub fn percent(share: f64) -> String {
    let text = format!("{share:.3}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// `1h 30m`; sub-seconds only under ten seconds.
pub fn duration(duration: Duration) -> String {
    let rounded = if duration < Duration::from_secs(10) {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    } else {
        Duration::from_secs(duration.as_secs())
    };
    humantime::format_duration(rounded).to_string()
}

/// Of a count of seconds from the wire, which may be anything.
pub fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| NONE.to_owned(), duration)
}

/// The time since an RFC 3339 time, in whole seconds; `None` where it cannot be read.
pub fn elapsed(time: &str) -> Option<String> {
    let at = humantime::parse_rfc3339(time).ok()?;
    let elapsed = SystemTime::now().duration_since(at).unwrap_or_default();
    Some(duration(Duration::from_secs(elapsed.as_secs())))
}

/// How long ago it was, or the time itself where it cannot be read.
pub fn age(time: &str) -> String {
    elapsed(time).map_or_else(|| time.to_owned(), |elapsed| format!("{elapsed} ago"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Style = Style { coloured: false };
    const TERMINAL: Style = Style { coloured: true };

    fn table() -> Table {
        let mut table = Table::new(["AGENT", "STATE", "REASON"]);
        table.row(["support-bot".into(), Cell::state("rolled_back"), "errors".into()]);
        table.row(["a".into(), Cell::state("running"), "".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_blanks() {
        assert_eq!(
            table().render(PIPE),
            "AGENT        STATE        REASON\nsupport-bot  rolled_back  errors\na            running      -\n"
        );
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let coloured = table().render(TERMINAL);
        assert!(coloured.contains("\x1b[31mrolled_back\x1b[0m"), "{coloured:?}");
        let codes = regex::Regex::new("\x1b\\[[0-9]*m").unwrap();
        assert_eq!(codes.replace_all(&coloured, ""), table().render(PIPE));
    }

    #[test]
    fn figures_are_written_as_people_write_them() {
        for (share, text) in [(5.0, "5%"), (0.001, "0.001%"), (100.0, "100%"), (12.5, "12.5%"), (0.0, "0%")] {
            assert_eq!(percent(share), text);
        }
        assert_eq!(seconds(5400.0), "1h 30m");
        assert_eq!(seconds(0.25), "250ms");
        assert_eq!(seconds(61.9), "1m 1s");
        assert_eq!(seconds(f64::NAN), NONE);
        assert_eq!(seconds(-1.0), NONE);
        assert_eq!(age("no time"), "no time");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(plain("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert_eq!(Cell::from("\x07").text, "\u{fffd}");
    }
}
