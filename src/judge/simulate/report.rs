//! What a simulation found, as figures and as Markdown.

use std::fmt;

use super::{Cost, Plan, Search, Traffic};

/// The rows of a whole plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub plan: Plan,
    pub false_alarms: Vec<FalseAlarmRow>,
    pub detection: Vec<DetectionRow>,
}

/// How often a good canary was blamed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FalseAlarmRow {
    pub traffic: Traffic,
    /// The canary's rate above stable's.
    pub excess: f64,
    pub runs: u64,
    pub alarms: u64,
}

/// What it took to find a bad canary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DetectionRow {
    pub traffic: Traffic,
    pub healthy_requests: u64,
    /// The canary's rate above stable's.
    pub defect: f64,
    pub runs: u64,
    pub found: u64,
    pub not_found: u64,
    /// Rolled back before the defect.
    pub false_alarms: u64,
    /// These three are over the runs that found it, from the defect to the verdict; `None` if none did.
    pub canary_requests: Option<Quantiles>,
    pub bad_requests: Option<Quantiles>,
    pub users_hit: Option<Quantiles>,
}

impl DetectionRow {
    pub(super) fn new(traffic: Traffic, healthy_requests: u64, defect: f64, searches: &[Search]) -> Self {
        let costs: Vec<Cost> = searches.iter().filter_map(|search| search.cost()).collect();
        let count = |kind| searches.iter().filter(|search| **search == kind).count() as u64;
        Self {
            traffic,
            healthy_requests,
            defect,
            runs: searches.len() as u64,
            found: costs.len() as u64,
            not_found: count(Search::NotFound),
            false_alarms: count(Search::FalseAlarm),
            canary_requests: Quantiles::of(costs.iter().map(|cost| cost.canary_requests)),
            bad_requests: Quantiles::of(costs.iter().map(|cost| cost.bad_requests)),
            users_hit: Quantiles::of(costs.iter().map(|cost| cost.users_hit)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    pub median: u64,
    pub p99: u64,
}

impl Quantiles {
    pub(super) fn of(values: impl Iterator<Item = u64>) -> Option<Self> {
        let mut values: Vec<u64> = values.collect();
        values.sort_unstable();
        let at = |q: f64| {
            let rank = (q * values.len() as f64).ceil() as usize;
            values.get(rank.max(1) - 1).copied()
        };
        Some(Self { median: at(0.5)?, p99: at(0.99)? })
    }
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { plan: plan.clone(), false_alarms: Vec::new(), detection: Vec::new() }
    }

    pub(super) fn rows(&self) -> usize {
        self.false_alarms.len() + self.detection.len()
    }

    /// The highest share of runs in which a good canary was blamed, over the rows.
    pub fn worst_false_alarm_share(&self) -> f64 {
        self.false_alarms.iter().map(|row| row.alarms as f64 / row.runs.max(1) as f64).fold(0.0, f64::max)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for guard in &self.plan.guards {
            writeln!(f, "Guard: {guard}.")?;
        }
        writeln!(f, "\nA good canary, judged after every request:\n")?;
        writeln!(f, "| traffic | canary's share | stable's errors | canary's errors | runs | rolled back |")?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- |")?;
        for row in &self.false_alarms {
            write!(f, "{}", row.traffic)?;
            let canary_rate = row.traffic.stable_rate + row.excess;
            writeln!(f, " {} | {} | {} |", percent(canary_rate), row.runs, row.alarms)?;
        }
        writeln!(f, "\nA bad canary, from the defect to the rollback (median / 99 % of the runs that found it):\n")?;
        writeln!(
            f,
            "| traffic | canary's share | stable's errors | defect | after healthy | found | canary requests | bad requests | users hit |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
        for row in &self.detection {
            write!(f, "{}", row.traffic)?;
            write!(f, " +{} | {} |", percent(row.defect), row.healthy_requests)?;
            write!(f, " {} |", percent(row.found as f64 / row.runs.max(1) as f64))?;
            for figure in [row.canary_requests, row.bad_requests, row.users_hit] {
                match figure {
                    Some(Quantiles { median, p99 }) => write!(f, " {median} / {p99} |")?,
                    None => write!(f, " – |")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The three cells that every row begins with.
impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_hour = self.requests_per_second * 3_600.0;
        let pace =
            if per_hour < 3_600.0 { format!("{per_hour:.0}/h") } else { format!("{:.0}/s", self.requests_per_second) };
        write!(f, "| {pace} | {} | {} |", percent(self.canary_share), percent(self.stable_rate))
    }
}

fn percent(share: f64) -> String {
    let digits = format!("{:.2}", share * 100.0);
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}
