//! What control counts of the questions that it asks the outside: health checks and Prometheus queries.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of one Prometheus query. The metric label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum QueryResult {
    Value,
    /// No series.
    Empty,
    SeveralSeries,
    NotANumber,
    /// The server refused the query.
    BadQuery,
    /// An answer that is not Prometheus's.
    BadAnswer,
    Unreachable,
    TimedOut,
    NoServer,
}

impl QueryResult {
    pub const ALL: [Self; 9] = [
        Self::Value,
        Self::Empty,
        Self::SeveralSeries,
        Self::NotANumber,
        Self::BadQuery,
        Self::BadAnswer,
        Self::Unreachable,
        Self::TimedOut,
        Self::NoServer,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Empty => "empty",
            Self::SeveralSeries => "several_series",
            Self::NotANumber => "not_a_number",
            Self::BadQuery => "bad_query",
            Self::BadAnswer => "bad_answer",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::NoServer => "no_server",
        }
    }
}

/// Since the process began.
#[derive(Debug, Default)]
pub struct OutsideCounters {
    checks_passed: AtomicU64,
    checks_failed: AtomicU64,
    queries: [AtomicU64; QueryResult::ALL.len()],
}

impl OutsideCounters {
    pub fn checked(&self, passed: bool) {
        let counter = if passed { &self.checks_passed } else { &self.checks_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn queried(&self, result: QueryResult) {
        self.queries[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn checks_passed(&self) -> u64 {
        self.checks_passed.load(Ordering::Relaxed)
    }

    pub fn checks_failed(&self) -> u64 {
        self.checks_failed.load(Ordering::Relaxed)
    }

    pub fn queries(&self, result: QueryResult) -> u64 {
        self.queries[result as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_result_has_a_place_of_its_own() {
        let counters = OutsideCounters::default();
        for (index, result) in QueryResult::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, index, "{result:?}");
            counters.queried(result);
            assert_eq!(counters.queries(result), 1, "{result:?}");
        }
        counters.checked(true);
        counters.checked(false);
        counters.checked(false);
        assert_eq!((counters.checks_passed(), counters.checks_failed()), (1, 2));
    }
}
