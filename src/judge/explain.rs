//! A reading in one sentence.

use std::fmt;
use std::time::Duration;

use super::counts::Timing;
use super::metric::Figure;
use super::watch::REQUESTS_TO_PASS;
use super::{Figures, Forecast, GuardSpec, GuardTest, Limit, Reading, Unit, Verdict};

/// The condition in words: `error_rate above 5% over 5m`.
impl fmt::Display for GuardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (metric, unit) = (self.metric, self.metric.unit());
        write!(f, "{metric}")?;
        match self.test {
            GuardTest::Windowed { limit, window, .. } => {
                write!(f, " above {} over {}", shown(limit, unit), time(window))
            }
            GuardTest::Above { limit, cap, confidence } => {
                write!(f, " above {}{} (confidence {})", shown(limit, unit), capped(cap, unit), percent(confidence))
            }
            GuardTest::WorseThanStable { margin, slower_than, cap, confidence } => {
                let slow = slower_than.map(|slow| format!(": share slower than {}", time(slow))).unwrap_or_default();
                // What is compared of times is a share.
                let margin = amount(margin, if unit == Unit::Duration { Unit::Share } else { unit });
                let capped = capped(cap, unit);
                write!(f, "{slow} worse than stable by {margin}{capped} (confidence {})", percent(confidence))
            }
        }
    }
}

fn shown(limit: Limit, unit: Unit) -> String {
    match limit {
        Limit::Rate(rate) => percent(rate),
        Limit::Duration(duration) => time(duration),
        Limit::Mean(mean) => amount(mean, unit),
    }
}

fn capped(cap: Option<f64>, unit: Unit) -> String {
    cap.map(|cap| format!(", each request up to {}", amount(cap, unit))).unwrap_or_default()
}

/// A figure in its unit.
fn amount(figure: f64, unit: Unit) -> String {
    match unit {
        Unit::Share => percent(figure),
        Unit::Duration => time(Duration::try_from_secs_f64(figure).unwrap_or_default()),
        Unit::Tokens => format!("{} tokens", digits(figure, 1)),
        Unit::Cost => digits(figure, 6),
    }
}

pub(super) fn sentence(reading: &Reading, judged_in_step: u64) -> String {
    let guard = reading.guard;
    let mut text = format!("{guard}: {}", figures(reading, &reading.canary));
    if let Some(stable) = &reading.stable {
        text += &format!("; stable {}", figures(reading, stable));
    }
    text += &match reading.verdict {
        Verdict::Breach => "; breach".to_owned(),
        Verdict::Pass => "; holds".to_owned(),
        Verdict::Hold => format!("; {}", why_held(reading, judged_in_step)),
    };
    if let Some(more) = reading.bad_to_breach {
        let what = if reading.guard.metric.is_mean() { "at the cap" } else { "bad" };
        text += &format!("; {more} more {what} in a row would be a breach");
        if let Some(Forecast { bad, requests }) = reading.forecast {
            text += &format!(", as would {bad} in the next {requests}");
        }
    }
    text
}

fn why_held(reading: &Reading, judged_in_step: u64) -> String {
    let (have, needed) = match reading.guard.test {
        GuardTest::Windowed { min_requests, .. } => (reading.canary.requests.min(judged_in_step), min_requests),
        _ => (judged_in_step, REQUESTS_TO_PASS),
    };
    if have < needed {
        format!("needs {needed} requests at this step, has {have}")
    } else {
        format!("suspicious: evidence is at {} of a breach", percent(reading.evidence))
    }
}

fn figures(reading: &Reading, figures: &Figures) -> String {
    let Some(estimate) = figures.estimate else { return "no requests".to_owned() };
    let Figures { requests, bad, .. } = figures;
    let counted = match reading.guard.metric.figure() {
        Figure::Share(share) => {
            let (of, how) = share.as_words();
            format!("{bad} of {requests} {of} {how}")
        }
        Figure::Quantile(Timing::BetweenTokens, _) => format!("{bad} of {requests} gaps too slow"),
        Figure::Quantile(..) => format!("{bad} of {requests} requests too slow"),
        Figure::Mean(_) => format!("over {requests} requests"),
    };
    format!("{} ({counted})", amount(estimate, reading.unit))
}

/// At most three digits after the point, and none in vain.
fn percent(share: f64) -> String {
    format!("{}%", digits(share * 100.0, 3))
}

/// At most so many digits after the point, and none in vain.
fn digits(number: f64, most: usize) -> String {
    let digits = format!("{number:.most$}");
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.').to_owned() } else { digits }
}

/// As in the configuration, to the millisecond above one second.
fn time(duration: Duration) -> String {
    let duration = if duration > Duration::from_secs(1) {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    } else {
        duration
    };
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_the_configuration() {
        assert_eq!(percent(0.05), "5%");
        assert_eq!(percent(0.999), "99.9%");
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(0.123_456), "12.346%");
        assert_eq!(amount(1_200.0, Unit::Tokens), "1200 tokens");
        assert_eq!(amount(0.025, Unit::Cost), "0.025");
        assert_eq!(time(Duration::from_secs(300)), "5m");
        assert_eq!(time(Duration::from_micros(3_276_800)), "3s 276ms");
    }
}
