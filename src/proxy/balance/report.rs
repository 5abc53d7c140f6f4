//! Log lines on ejections and returns.
//!
//! Bound: [`LINES_PER_SECOND`] of each worker; the others are only counted, in the metrics.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::proxy::outcome::Record;
use crate::routing::endpoint::Ejected;
use crate::telemetry::endpoints::EjectionReason;
use crate::telemetry::stats::VersionLabels;

const LINES_PER_SECOND: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

pub(super) fn ejected(record: &Record, index: usize, reason: EjectionReason, ejected: Ejected) {
    if !may_write() {
        return;
    }
    let VersionLabels { environment, agent, version } = &record.version().stats.labels;
    let endpoint = &record.version().endpoints[index].address;
    tracing::warn!(
        %environment, %agent, %version, %endpoint, reason = reason.as_str(),
        time = %humantime::format_duration(ejected.time), in_a_row = ejected.in_a_row, "endpoint ejected"
    );
}

pub(super) fn returned(record: &Record, index: usize) {
    if !may_write() {
        return;
    }
    let VersionLabels { environment, agent, version } = &record.version().stats.labels;
    let endpoint = &record.version().endpoints[index].address;
    tracing::info!(%environment, %agent, %version, %endpoint, "endpoint back in service");
}

fn may_write() -> bool {
    thread_local! {
        static WRITTEN: Cell<Option<(Instant, u32)>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    let (since, lines) = WRITTEN.get().filter(|(since, _)| now - *since < SECOND).unwrap_or((now, 0));
    WRITTEN.set(Some((since, lines + 1)));
    lines < LINES_PER_SECOND
}
