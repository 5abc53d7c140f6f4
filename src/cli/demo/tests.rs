//! The ledger's arithmetic and the configuration; the whole demo is run by the tests of the binary.

use super::ledger::{Arm, Ledger, Seen, WINDOW};
use super::*;

struct Case {
    ledger: Ledger,
    start: Instant,
}

impl Case {
    fn new() -> Self {
        Self { ledger: Ledger::default(), start: Instant::now() }
    }

    /// An answer that began and ended so many milliseconds after the start.
    fn seen(&mut self, user: usize, arm: Option<Arm>, sent: u64, ended: u64, failed: bool) {
        let at = |ms| self.start + Duration::from_millis(ms);
        self.ledger.record(Seen { user, sent: at(sent), ended: at(ended), arm, failed });
    }
}

#[test]
fn live_figures_are_of_the_window_and_costs_of_the_whole() {
    let mut case = Case::new();
    case.seen(1, Some(Arm::Canary), 0, 10, true);
    case.seen(1, Some(Arm::Canary), 20, 40, true);
    case.seen(2, Some(Arm::Stable), 1000, 1010, false);
    case.seen(3, Some(Arm::Stable), 1000, 1030, false);
    case.seen(4, Some(Arm::Canary), 1000, 1020, true);
    case.seen(5, None, 1000, 1020, true);
    let view = case.ledger.view(case.start + WINDOW + Duration::from_millis(100));
    assert_eq!((view.stable.answers, view.canary.answers), (2, 1));
    assert!((view.canary.share - 1.0 / 3.0).abs() < 1e-9 && (view.canary.failed - 1.0).abs() < 1e-9);
    assert_eq!(view.stable.p50, Some(Duration::from_millis(10)));
    assert_eq!(view.stable.p95, Some(Duration::from_millis(30)));
    assert_eq!((view.stable.users, view.canary.users), (2, 2));
    let ledger = &case.ledger;
    assert_eq!((ledger.answers, ledger.failed, ledger.hurt.len(), ledger.other_failures), (6, 3, 2, 1));
    assert_eq!(ledger.first_failure, Some(case.start + Duration::from_millis(10)));
    assert_eq!(ledger.last_sent_to_canary, Some(case.start + Duration::from_millis(1000)));
}

#[test]
fn a_user_taken_back_while_all_is_well_is_counted_and_one_taken_back_by_a_rollback_is_not() {
    let mut case = Case::new();
    case.seen(1, Some(Arm::Canary), 0, 1, false);
    case.seen(1, Some(Arm::Stable), 2, 3, false);
    assert_eq!(case.ledger.moved_back, 1);
    case.seen(2, Some(Arm::Canary), 4, 5, true);
    case.seen(2, Some(Arm::Stable), 6, 7, false);
    assert_eq!(case.ledger.moved_back, 1);
}

#[test]
fn the_configuration_is_one_that_run_takes_as_it_is() {
    let config = Config::parse("demo.yaml", CONFIG, &|_| None).unwrap();
    let deployment = config.agents[0].deployment.as_ref().unwrap();
    assert_eq!(deployment.version.as_str(), CANARY);
    assert!(deployment.steps[LAST_STEP].hold.unwrap() > Duration::from_secs(60), "it must not end by itself");
}
