//! A version's live counters, as its judge reads them: only what the guards ask for, into buffers made once.
//!
//! A look comes as often as every 5 ms, and the histograms are most of what there is to add up: 464 buckets each,
//! by worker. Guards on error rates need none of them, and stable matters only to guards that compare with it.

use super::counts::{Amount, Timing};
use super::metric::Figure;
use super::{Counts, GuardSpec, GuardTest};
use crate::telemetry::stats::{Histograms, Totals, VersionStats};

/// Reads one version's counters for a list of guards. Figures that no guard needs stay 0.
#[derive(Clone, Debug)]
pub struct Feed {
    /// `None`: no guard looks at this version.
    reads: Option<Histograms>,
    totals: Totals,
    counts: Counts,
}

impl Feed {
    pub fn of_canary(guards: &[GuardSpec]) -> Self {
        Self::of(guards.iter())
    }

    pub fn of_stable(guards: &[GuardSpec]) -> Self {
        Self::of(guards.iter().filter(|guard| matches!(guard.test, GuardTest::WorseThanStable { .. })))
    }

    fn of<'a>(guards: impl Iterator<Item = &'a GuardSpec>) -> Self {
        let mut reads = None;
        for guard in guards {
            let reads = reads.get_or_insert_with(Histograms::default);
            match guard.metric.figure() {
                Figure::Share(_) => {}
                Figure::Quantile(Timing::Total, _) => reads.latency = true,
                Figure::Quantile(Timing::FirstByte, _) => reads.first_byte = true,
                Figure::Quantile(Timing::FirstToken, _) => reads.first_token = true,
                Figure::Quantile(Timing::BetweenTokens, _) => reads.between_tokens = true,
                Figure::Mean(Amount::OutputTokens) => reads.output_tokens = true,
                Figure::Mean(Amount::Cost) => reads.cost = true,
            }
        }
        Self { reads, totals: Totals::default(), counts: Counts::default() }
    }

    /// The counts as they are now.
    pub fn read(&mut self, stats: &VersionStats) -> &Counts {
        if let Some(histograms) = self.reads {
            stats.read(&mut self.totals, histograms);
            let (totals, counts) = (&mut self.totals, &mut self.counts);
            (counts.judged, counts.errors, counts.in_flight) = (totals.judged(), totals.errors(), totals.in_flight());
            (counts.streams, counts.stream_errors) = (totals.streams.judged(), totals.streams.errors());
            let streams = &mut totals.streams;
            // Swapped, not copied: the next read clears what it fills.
            for (asked, from, into) in [
                (histograms.latency, &mut totals.latency, &mut counts.latency),
                (histograms.first_byte, &mut totals.first_byte, &mut counts.first_byte),
                (histograms.first_token, &mut streams.first_token, &mut counts.first_token),
                (histograms.between_tokens, &mut streams.between_tokens, &mut counts.between_tokens),
                (histograms.output_tokens, &mut streams.output, &mut counts.output_tokens),
                (histograms.cost, &mut streams.cost, &mut counts.cost),
            ] {
                if asked {
                    std::mem::swap(from, into);
                }
            }
        }
        &self.counts
    }
}
