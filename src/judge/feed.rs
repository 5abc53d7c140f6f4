//! A version's live counters, as its judge reads them: only what the guards ask for, into buffers made once.
//!
//! A look comes as often as every 5 ms, and the histograms are most of what there is to add up: 464 buckets each,
//! by worker. Guards on error rates need none of them, and stable matters only to guards that compare with it.

use super::counts::Timing;
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
        let reads = guards.fold(None, |reads: Option<Histograms>, guard| {
            let (reads, timing) = (reads.unwrap_or_default(), Timing::of(guard.metric));
            Some(Histograms {
                latency: reads.latency || timing == Some(Timing::Total),
                first_byte: reads.first_byte || timing == Some(Timing::FirstByte),
                ..reads
            })
        });
        Self { reads, totals: Totals::default(), counts: Counts::default() }
    }

    /// The counts as they are now.
    pub fn read(&mut self, stats: &VersionStats) -> &Counts {
        if let Some(histograms) = self.reads {
            stats.read(&mut self.totals, histograms);
            let (totals, counts) = (&mut self.totals, &mut self.counts);
            (counts.judged, counts.errors, counts.in_flight) = (totals.judged(), totals.errors(), totals.in_flight());
            // Swapped, not copied: the next read clears what it fills.
            if histograms.latency {
                std::mem::swap(&mut counts.latency, &mut totals.latency);
            }
            if histograms.first_byte {
                std::mem::swap(&mut counts.first_byte, &mut totals.first_byte);
            }
        }
        &self.counts
    }
}
