//! What the demo shows while it runs: on a terminal a panel that is redrawn in place below the list of
//! events, otherwise one plain line a second and one per event.
//!
//! The panel uses nothing but cursor-up, erase and (unless `NO_COLOR` is set) colours. No line of it is
//! wider than 78 columns, so that cursor-up counts right.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::ledger::{ArmView, View};
use super::{CANARY, STABLE};
use crate::routing::ids::Weight;

const PANEL_PERIOD: Duration = Duration::from_millis(200);
const LINE_PERIOD: Duration = Duration::from_secs(1);
const BAR_CELLS: usize = 18;

pub struct Screen {
    style: Style,
    shown: Option<Instant>,
    /// Lines of the panel that stand on the screen now.
    drawn: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Lines,
    Panel { colour: bool },
}

impl Screen {
    pub fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let style =
            if io::stdout().is_terminal() && !dumb { Style::Panel { colour: !set("NO_COLOR") } } else { Style::Lines };
        Self { style, shown: None, drawn: 0 }
    }

    pub fn is_due(&self, now: Instant) -> bool {
        let period = if self.style == Style::Lines { LINE_PERIOD } else { PANEL_PERIOD };
        self.shown.is_none_or(|shown| now.duration_since(shown) >= period)
    }

    /// Something happened.
    pub fn event(&mut self, at: Duration, text: &str) -> io::Result<()> {
        self.line(&format!("{}  {text}", clock(at)))
    }

    /// Something bad happened.
    pub fn alarm(&mut self, at: Duration, text: &str) -> io::Result<()> {
        let text = format!("{}  {text}", clock(at));
        self.line(&self.red(&text))
    }

    pub fn show(&mut self, at: Duration, weight: Weight, view: &View) -> io::Result<()> {
        self.shown = Some(Instant::now());
        if self.style == Style::Lines {
            return self.line(&one_line(at, weight, view));
        }
        let lines = [
            String::new(),
            heading(),
            self.row(STABLE, &view.stable),
            self.row(CANARY, &view.canary),
            String::new(),
            format!("  {}  {CANARY} should get {weight}", clock(at)),
        ];
        let mut out = io::stdout().lock();
        writeln!(out, "{}{}", self.erase(), lines.join("\n"))?;
        self.drawn = lines.len();
        out.flush()
    }

    /// A line that stays, above the panel.
    fn line(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}{text}", self.erase())?;
        // The panel comes back with the next look, below this line.
        self.drawn = 0;
        if self.style != Style::Lines {
            self.shown = None;
        }
        out.flush()
    }

    /// Up to the panel's first line, and away with everything from there.
    fn erase(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\r\x1b[J", self.drawn) }
    }

    fn row(&self, version: &str, arm: &ArmView) -> String {
        let errors = format!("{:>5.1} %", arm.failed * 100.0);
        let errors = if arm.failed > 0.0 { self.red(&errors) } else { errors };
        format!(
            "  {version:<7}  {}  {:>5.1} %  {:>5} {errors}  {:>7}  {:>7}  {:>5}",
            bar(arm.share),
            arm.share * 100.0,
            arm.answers,
            millis(arm.p50),
            millis(arm.p95),
            arm.users
        )
    }

    fn red(&self, text: &str) -> String {
        if self.style == (Style::Panel { colour: true }) { format!("\x1b[31m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Over the columns of [`Screen::row`].
fn heading() -> String {
    let traffic = "traffic";
    format!("  version  {traffic:<BAR_CELLS$}    share  req/s  errors      p50      p95  users")
}

fn one_line(at: Duration, weight: Weight, view: &View) -> String {
    let arm = |version: &str, arm: &ArmView| {
        let (share, failed) = (arm.share * 100.0, arm.failed * 100.0);
        let (answers, p95) = (arm.answers, millis(arm.p95));
        format!("{version} {share:>5.1} % {answers:>4}/s, {failed:>4.1} % errors, p95 {p95:>6}")
    };
    let (stable, canary) = (arm(STABLE, &view.stable), arm(CANARY, &view.canary));
    format!("{}    want {:>4} | {stable} | {canary}, {} users", clock(at), weight.to_string(), view.canary.users)
}

fn bar(share: f64) -> String {
    let filled = ((share * BAR_CELLS as f64).round() as usize).min(BAR_CELLS);
    // A canary that gets anything at all is to be seen.
    let filled = if share > 0.0 { filled.max(1) } else { filled };
    format!("{}{}", "█".repeat(filled), "·".repeat(BAR_CELLS - filled))
}

fn millis(latency: Option<Duration>) -> String {
    latency.map_or_else(|| "-".to_owned(), |latency| format!("{} ms", latency.as_millis()))
}

/// `  7.5 s`, since the demo began.
fn clock(at: Duration) -> String {
    format!("{:>5.1} s", at.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let stable = ArmView { answers: 300, share: 0.75, users: 226, ..ArmView::default() };
        let millis = |n| Some(Duration::from_millis(n));
        let canary = ArmView { answers: 100, share: 0.25, failed: 0.5, p50: millis(24), p95: millis(5_000), users: 74 };
        View { stable, canary }
    }

    #[test]
    fn panel_rows_are_in_columns_and_fit_the_narrowest_terminal() {
        let screen = Screen { style: Style::Panel { colour: false }, shown: None, drawn: 0 };
        for line in [heading(), screen.row(STABLE, &view().stable), screen.row(CANARY, &view().canary)] {
            assert_eq!(line.chars().count(), 78, "{line}");
        }
    }

    #[test]
    fn plain_lines_have_no_escapes() {
        let text = one_line(Duration::from_millis(7500), Weight::FULL, &view());
        assert!(!text.contains('\x1b'));
        assert!(text.starts_with("  7.5 s    want 100% | 1.4.2  75.0 %  300/s,"), "{text}");
        assert!(text.contains("50.0 % errors"));
    }

    #[test]
    fn a_bar_shows_even_a_small_share_and_never_overflows() {
        assert_eq!(bar(0.0), "·".repeat(BAR_CELLS));
        assert!(bar(0.001).starts_with('█'));
        assert_eq!(bar(1.0), "█".repeat(BAR_CELLS));
    }
}
