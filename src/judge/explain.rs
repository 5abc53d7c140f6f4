//! A reading in one sentence.

use std::fmt;
use std::time::Duration;

use super::metric::Figure;
use super::watch::REQUESTS_TO_PASS;
use super::{Figures, Forecast, GuardSpec, GuardTest, Limit, Reading, Unit, Verdict};

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate(rate) => f.write_str(&percent(*rate)),
            Self::Duration(duration) => f.write_str(&time(*duration)),
        }
    }
}

/// The condition in words: `error_rate above 5% over 5m`.
impl fmt::Display for GuardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = self.metric;
        match self.test {
            GuardTest::Windowed { limit, window, .. } => write!(f, "{metric} above {limit} over {}", time(window)),
            GuardTest::Above { limit, confidence } => {
                write!(f, "{metric} above {limit} (confidence {})", percent(confidence))
            }
            GuardTest::WorseThanStable { margin, slower_than: None, confidence } => {
                write!(f, "{metric} worse than stable by {} (confidence {})", percent(margin), percent(confidence))
            }
            GuardTest::WorseThanStable { margin, slower_than: Some(slow), confidence } => write!(
                f,
                "{metric}: share slower than {} worse than stable by {} (confidence {})",
                time(slow),
                percent(margin),
                percent(confidence)
            ),
        }
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
        text += &format!("; {more} more bad in a row would be a breach");
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
    let how = match reading.guard.metric.figure() {
        Figure::Share(share) => share.as_words(),
        Figure::Quantile(..) => "too slow",
    };
    let bad = format!("{bad} of {requests} requests {how}");
    match reading.unit {
        Unit::Share => format!("{} ({bad})", percent(estimate)),
        Unit::Duration => format!("{} ({bad})", time(Duration::try_from_secs_f64(estimate).unwrap_or_default())),
    }
}

/// At most three digits after the point, and none in vain.
fn percent(share: f64) -> String {
    let digits = format!("{:.3}", share * 100.0);
    format!("{}%", digits.trim_end_matches('0').trim_end_matches('.'))
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
        assert_eq!(time(Duration::from_secs(300)), "5m");
        assert_eq!(time(Duration::from_micros(3_276_800)), "3s 276ms");
    }
}
