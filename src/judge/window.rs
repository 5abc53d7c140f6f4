//! What came in over the last five minutes, or any other span.
//!
//! A window remembers the cumulative counts at moments about a thirtieth of its span apart; its figure is the
//! difference between the last look and the newest such mark that is at least a span old. So it covers the
//! span, and up to a thirtieth more; before a span has passed, all there is. A mark is always a look that took
//! place, and what came between two looks belongs to the later one: nothing is lost, and no burst is cut.
//!
//! Bound: a mark is taken when a slice has passed since the one before, and the mark after next lies a whole
//! slice later, so at most two fall into a slice and [`MARKS_MAX`] into a window, whatever the rhythm of the
//! looks. A mark is some 250 bytes and 16 for each question, and 3.8 KiB more for each histogram that some guard of
//! this window reads: 8 KiB for error rates, at most 250 KiB for one histogram, commonly half of that. Guards of one span share a window.

use std::collections::VecDeque;
use std::time::Duration;

use super::counts::{Amount, Question, Timing, Total};
use super::{Counts, GuardSpec, GuardTest, Tally};
use crate::telemetry::stats::Distribution;

const SLICES: u32 = 30;
const MARKS_MAX: usize = 2 * SLICES as usize + 4;

/// The windows of all guards, one for each span.
#[derive(Clone, Debug)]
pub(super) struct Windows(Vec<Window>);

impl Windows {
    pub(super) fn new(guards: &[GuardSpec], counts: &Counts, now: Duration) -> Self {
        let mut windows: Vec<Window> = Vec::new();
        for guard in guards {
            let GuardTest::Windowed { window: span, .. } = guard.test else { continue };
            let window = match windows.iter_mut().position(|window| window.span == span) {
                Some(index) => &mut windows[index],
                None => {
                    windows.push(Window::new(span));
                    windows.last_mut().expect("just pushed")
                }
            };
            window.asks.add(Question::of(guard));
        }
        for window in &mut windows {
            window.latest.set(now, counts, &window.asks);
        }
        Self(windows)
    }

    pub(super) fn observe(&mut self, now: Duration, counts: &Counts) {
        for window in &mut self.0 {
            window.observe(now, counts);
        }
    }

    pub(super) fn tally(&self, span: Duration, question: Question, now: Duration) -> Tally {
        self.of(span).map_or_else(Tally::default, |window| window.tally(question, now))
    }

    pub(super) fn times(&self, span: Duration, timing: Timing, now: Duration) -> Option<Distribution> {
        self.of(span)?.times(timing, now)
    }

    pub(super) fn total(&self, span: Duration, amount: Amount, now: Duration) -> Total {
        self.of(span).map_or_else(Total::default, |window| window.total(amount, now))
    }

    fn of(&self, span: Duration) -> Option<&Window> {
        self.0.iter().find(|window| window.span == span)
    }
}

/// What the guards of a window want to know.
#[derive(Clone, Debug, Default)]
struct Asks {
    questions: Vec<Question>,
    /// In the order of [`Timing::ALL`].
    times: [bool; Timing::ALL.len()],
    /// In the order of [`Amount::ALL`].
    totals: [bool; Amount::ALL.len()],
}

impl Asks {
    fn add(&mut self, question: Question) {
        if !self.questions.contains(&question) {
            self.questions.push(question);
        }
        match question {
            Question::Share(_) => {}
            Question::SlowerThan(timing, _) => self.times[timing as usize] = true,
            Question::MoreThan(amount, _) => self.totals[amount as usize] = true,
        }
    }
}

/// The cumulative counts at one look.
#[derive(Clone, Debug, Default)]
struct Mark {
    at: Duration,
    /// In the order of the questions.
    tallies: Vec<Tally>,
    /// For a reading's quantile; in the order of [`Timing::ALL`].
    times: [Option<Distribution>; Timing::ALL.len()],
    /// In the order of [`Amount::ALL`].
    totals: [Total; Amount::ALL.len()],
}

impl Mark {
    /// Into the buffers that it has: a look allocates nothing.
    fn set(&mut self, at: Duration, counts: &Counts, asks: &Asks) {
        self.at = at;
        self.tallies.clear();
        self.tallies.extend(asks.questions.iter().map(|question| question.ask(counts)));
        for (timing, (into, asked)) in Timing::ALL.into_iter().zip(self.times.iter_mut().zip(asks.times)) {
            copy(into, asked.then(|| timing.of(counts)));
        }
        for (amount, (into, asked)) in Amount::ALL.into_iter().zip(self.totals.iter_mut().zip(asks.totals)) {
            *into = if asked { Total::of(amount.of(counts)) } else { Total::default() };
        }
    }

    fn tally(&self, index: usize) -> Tally {
        self.tallies.get(index).copied().unwrap_or_default()
    }

    fn times(&self, timing: Timing) -> Option<&Distribution> {
        self.times[timing as usize].as_ref()
    }

    fn total(&self, amount: Amount) -> Total {
        self.totals[amount as usize]
    }
}

fn copy(into: &mut Option<Distribution>, from: Option<&Distribution>) {
    match (into, from) {
        (Some(into), Some(from)) => into.clone_from(from),
        (into, from) => *into = from.cloned(),
    }
}

#[derive(Clone, Debug)]
struct Window {
    span: Duration,
    asks: Asks,
    /// Oldest first; all older than `latest`. The first may be older than the span, the second is not.
    marks: VecDeque<Mark>,
    latest: Mark,
    /// A mark that is over, whose buffers the next one takes: in the long run nothing is allocated.
    spare: Option<Mark>,
}

impl Window {
    fn new(span: Duration) -> Self {
        let marks = VecDeque::with_capacity(MARKS_MAX + 1);
        Self { span, asks: Asks::default(), marks, latest: Mark::default(), spare: None }
    }

    fn observe(&mut self, now: Duration, counts: &Counts) {
        let slice_is_over = self.marks.back().is_none_or(|last| now >= last.at + self.span / SLICES);
        if slice_is_over {
            let blank = self.spare.take().unwrap_or_default();
            self.marks.push_back(std::mem::replace(&mut self.latest, blank));
        }
        self.latest.set(now, counts, &self.asks);
        while self.first_is_over(now) || self.marks.len() > MARKS_MAX {
            self.spare = self.marks.pop_front();
        }
    }

    fn first_is_over(&self, now: Duration) -> bool {
        self.marks.get(1).is_some_and(|second| second.at + self.span <= now)
    }

    /// Where the window that ends `now` begins: the newest mark a span old, or else the oldest there is.
    fn start(&self, now: Duration) -> &Mark {
        let old_enough = |mark: &&Mark| mark.at + self.span <= now;
        if old_enough(&&self.latest) {
            return &self.latest;
        }
        // At most the first is old enough at a look, some more after it: few steps.
        let newest = self.marks.iter().take_while(old_enough).last();
        newest.or(self.marks.front()).unwrap_or(&self.latest)
    }

    fn tally(&self, question: Question, now: Duration) -> Tally {
        let asked = self.asks.questions.iter().position(|asked| *asked == question);
        asked.map_or_else(Tally::default, |index| self.latest.tally(index).since(self.start(now).tally(index)))
    }

    fn times(&self, timing: Timing, now: Duration) -> Option<Distribution> {
        Some(self.latest.times(timing)?.since(self.start(now).times(timing)?))
    }

    fn total(&self, amount: Amount, now: Duration) -> Total {
        self.latest.total(amount).since(self.start(now).total(amount))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::counts::Share;

    const SPAN: Duration = Duration::from_secs(300);
    const FAILED: Question = Question::Share(Share::Failed);

    fn counts(judged: u64, errors: u64) -> Counts {
        Counts { judged, errors, ..Counts::default() }
    }

    fn window() -> Window {
        let mut window = Window::new(SPAN);
        window.asks.add(FAILED);
        window.latest.set(Duration::ZERO, &counts(1_000, 500), &window.asks);
        window
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn before_a_span_has_passed_it_holds_all_since_the_start() {
        let mut window = window();
        assert_eq!(window.tally(FAILED, at(0)), Tally::default());
        window.observe(at(10), &counts(1_010, 501));
        window.observe(at(200), &counts(1_100, 502));
        assert_eq!(window.tally(FAILED, at(200)), Tally::new(100, 2));
    }

    #[test]
    fn a_burst_is_in_the_window_for_its_span_and_then_out() {
        let mut window = window();
        for second in 1..=2_000 {
            // 100 requests, half of them errors, within second 777.
            let burst = if second >= 777 { 1 } else { 0 };
            window.observe(at(second), &counts(1_000 + 100 * burst, 500 + 50 * burst));
            let seen = window.tally(FAILED, at(second));
            if (777..777 + 300).contains(&second) {
                assert_eq!(seen, Tally::new(100, 50), "second {second}");
            }
            if !(777..=777 + 300 + 10).contains(&second) {
                assert_eq!(seen, Tally::default(), "second {second}");
            }
            assert!(window.marks.len() <= MARKS_MAX);
        }
    }

    #[test]
    fn what_came_before_a_lull_is_not_taken_for_new_after_it() {
        let mut window = window();
        window.observe(at(1), &counts(1_100, 600));
        window.observe(at(5_000), &counts(1_110, 600));
        assert_eq!(window.tally(FAILED, at(5_000)), Tally::new(10, 0));
        // No look for a span: nothing is known of it.
        assert_eq!(window.tally(FAILED, at(6_000)), Tally::default());
    }

    #[test]
    fn marks_stay_bounded_in_any_rhythm() {
        for gap in [1, 7, 9_999, 10_000, 10_001, 19_999, 400_000] {
            let mut window = window();
            let mut now = Duration::ZERO;
            for look in 0..2_000u64 {
                now += Duration::from_millis(if look % 2 == 0 { gap } else { 20_001u64.saturating_sub(gap).max(1) });
                window.observe(now, &counts(1_000 + look, 500));
                assert!(window.marks.len() < MARKS_MAX, "gap {gap}: {}", window.marks.len());
            }
        }
    }

    #[test]
    fn one_window_for_each_span_with_the_histograms_that_are_read() {
        let guard = |metric, seconds| GuardSpec {
            metric,
            test: GuardTest::Windowed {
                limit: crate::judge::Limit::Duration(at(1)),
                window: at(seconds),
                min_requests: 1,
            },
        };
        let guards = [
            guard(crate::judge::Metric::ErrorRate, 60),
            guard(crate::judge::Metric::LatencyP95, 60),
            guard(crate::judge::Metric::TtfbP95, 300),
        ];
        let windows = Windows::new(&guards, &Counts::default(), at(0));
        assert_eq!(windows.0.len(), 2);
        let read = |window: &Window| Timing::ALL.map(|timing| window.latest.times(timing).is_some());
        assert_eq!(
            (read(&windows.0[0]), read(&windows.0[1])),
            ([true, false, false, false], [false, true, false, false])
        );
    }
}
