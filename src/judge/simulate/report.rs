//! What a simulation found, as figures, as a summary and as Markdown.

use std::fmt;

use serde::Serialize;

use super::{Cost, Plan, Search, Traffic};
use crate::judge::{GuardTest, Tally, interval};

/// The rows of a whole plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub plan: Plan,
    pub false_alarms: Vec<FalseAlarmRow>,
    pub detection: Vec<DetectionRow>,
}

/// How often a good canary was blamed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FalseAlarmRow {
    pub traffic: Traffic,
    /// The canary's rate above stable's.
    pub excess: f64,
    pub runs: u64,
    pub alarms: u64,
    /// Which true shares of alarms are compatible with that, at 95 % (Chernoff's bound on each side).
    pub interval: (f64, f64),
}

impl FalseAlarmRow {
    pub(super) fn new(traffic: Traffic, excess: f64, runs: u64, alarms: u64) -> Self {
        Self { traffic, excess, runs, alarms, interval: interval::at_once(Tally::new(runs, alarms).into(), 0.05) }
    }

    fn share(&self) -> f64 {
        self.alarms as f64 / self.runs.max(1) as f64
    }
}

/// What it took to find a bad canary.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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

    /// The row in which a good canary was blamed most often.
    pub fn worst_false_alarms(&self) -> Option<&FalseAlarmRow> {
        self.false_alarms.iter().max_by(|a, b| a.share().total_cmp(&b.share()))
    }

    /// The highest chance of a false alarm that the guards allow together; none where a guard promises nothing.
    pub fn promised(&self) -> Option<f64> {
        let allowed = self.plan.guards.iter().map(|guard| match guard.test {
            GuardTest::Windowed { .. } => None,
            GuardTest::Above { confidence, .. } | GuardTest::WorseThanStable { confidence, .. } => {
                Some(1.0 - confidence)
            }
        });
        allowed.sum()
    }

    /// Whether no row's figures speak against the promise: its interval would have to lie above it.
    pub fn keeps_promise(&self) -> bool {
        let Some(promised) = self.promised() else { return false };
        self.false_alarms.iter().all(|row| row.interval.0 <= promised)
    }

    /// A few lines for people.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for guard in &self.plan.guards {
            text += &format!("guard            {guard}\n");
        }
        let (runs, alarms) = self.false_alarms.iter().fold((0, 0), |(r, a), row| (r + row.runs, a + row.alarms));
        let (low, high) = interval::at_once(Tally::new(runs, alarms).into(), 0.05);
        text += &format!(
            "false rollbacks  {alarms} of {runs} good canaries judged after every request: {} to {} at 95 %\n",
            percent(low),
            percent(high)
        );
        if let Some(row) = self.worst_false_alarms() {
            let (low, high) = row.interval;
            text += &format!(
                "worst cell       {} of {}: {} to {} at 95 %\n",
                row.alarms,
                row.runs,
                percent(low),
                percent(high)
            );
        }
        let kept = if self.keeps_promise() { "kept in every cell" } else { "NOT KEPT" };
        if let Some(promised) = self.promised() {
            text += &format!("promise          at most {}: {kept}\n", percent(promised));
        }
        text
    }
}

/// As Markdown: a table of false alarms with a column for each traffic, and one of detection with a column for each defect.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "```\n{}```\n", self.summary())?;
        self.false_alarm_table(f)?;
        writeln!(
            f,
            "\nA bad canary, from the defect to the rollback: bad requests · users hit, each as median / 99 % of runs; with \
             the share of {} runs that found it within {} canary requests, if not all did.\n",
            self.plan.detection.runs, self.plan.detection.canary_requests
        )?;
        self.detection_table(f)
    }
}

impl Report {
    fn false_alarm_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut paces: Vec<String> = self.false_alarms.iter().map(|row| pace(row.traffic)).collect();
        paces.dedup();
        let excess_max = self.plan.false_alarms.excesses.iter().copied().fold(0.0, f64::max);
        writeln!(f, "Good canaries that were rolled back, of {} each, by traffic:\n", self.plan.false_alarms.runs)?;
        write!(f, "| canary's share | stable's errors | canary's errors |")?;
        paces.iter().try_for_each(|pace| write!(f, " {pace} |"))?;
        writeln!(f, "\n|{}", " --- |".repeat(3 + paces.len()))?;
        let key = |row: &FalseAlarmRow| (row.traffic.canary_share, row.traffic.stable_rate, row.excess.min(excess_max));
        let mut seen = Vec::new();
        for row in &self.false_alarms {
            if seen.contains(&key(row)) {
                continue;
            }
            seen.push(key(row));
            let (share, rate, excess) = key(row);
            write!(f, "| {} | {} | {} |", percent(share), percent(rate), percent(rate + excess))?;
            let same = self.false_alarms.iter().filter(|other| key(other) == key(row));
            same.into_iter().try_for_each(|other| write!(f, " {} |", other.alarms))?;
            writeln!(f)?;
        }
        Ok(())
    }

    fn detection_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let defects = &self.plan.detection.defects;
        write!(f, "| traffic | canary's share | stable's errors | after healthy |")?;
        defects.iter().try_for_each(|defect| write!(f, " +{} |", percent(*defect)))?;
        writeln!(f, "\n|{}", " --- |".repeat(4 + defects.len()))?;
        for rows in self.detection.chunks(defects.len().max(1)) {
            let Some(first) = rows.first() else { continue };
            let Traffic { canary_share, stable_rate, .. } = first.traffic;
            write!(f, "| {} | {} | {} |", pace(first.traffic), percent(canary_share), percent(stable_rate))?;
            write!(f, " {} |", first.healthy_requests)?;
            rows.iter().try_for_each(|row| write!(f, " {} |", cell(row)))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

fn cell(row: &DetectionRow) -> String {
    let (Some(bad), Some(users)) = (row.bad_requests, row.users_hit) else { return "–".to_owned() };
    let found = if row.found == row.runs {
        String::new()
    } else {
        format!(" ({})", percent(row.found as f64 / row.runs.max(1) as f64))
    };
    format!("{} / {} · {} / {}{found}", bad.median, bad.p99, users.median, users.p99)
}

fn pace(traffic: Traffic) -> String {
    let per_hour = traffic.requests_per_second * 3_600.0;
    if per_hour < 3_600.0 { format!("{per_hour:.0}/h") } else { format!("{:.0}/s", traffic.requests_per_second) }
}

fn percent(share: f64) -> String {
    let digits = format!("{:.3}", share * 100.0);
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}
