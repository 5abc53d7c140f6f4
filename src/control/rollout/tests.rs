//! Whole timelines: what a deployment does, look by look.

use std::fmt::Write;
use std::time::SystemTime;

use super::super::fixture::{a_breach, a_spec, guard, step};
use super::*;
use crate::control::model::Stage::{Bake, Step};

const MIN: u64 = 60;

#[derive(Clone, Copy)]
enum Said {
    Silent,
    Pass,
    Breach,
}
use Said::{Breach as B, Pass as P, Silent as S};

fn judgement(said: Said) -> Judgement {
    match said {
        S => Judgement::Silent,
        P => Judgement::Pass,
        B => Judgement::Breach(a_breach()),
    }
}

/// Runs a deployment through looks at seconds since its start, and writes down what it does.
fn timeline(spec: &DeploymentSpec, looks: &[(u64, Said)]) -> String {
    let start = Moment { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    timeline_from(spec, start, DeploymentState::Running { stage: Step(0), since: start }, looks)
}

fn timeline_from(spec: &DeploymentSpec, start: Moment, begin: DeploymentState, looks: &[(u64, Said)]) -> String {
    let (mut state, mut text) = (begin, String::new());
    for (seconds, said) in looks {
        let now = start.checked_add(Duration::from_secs(*seconds)).expect("near");
        let seen = Observation { judgement: judgement(*said), health: Health::NotAsked };
        let actions = plan(spec, &state, &seen, now);
        let mut names = Vec::new();
        for action in &actions {
            state = after(spec, &state, action, Cost::default(), now);
            names.push(name(action));
        }
        let due = deadline(spec, &state).map(|at| at.duration_since(start.instant).as_secs());
        let due = due.map_or("-".to_owned(), clock);
        let heard = ["silent", "pass", "breach"][*said as usize];
        let (stage, weight) = (show(&state), state.weight(spec));
        let acts = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
        writeln!(text, "{} {heard:6} {acts:20} {stage:12} {weight:4} due {due}", clock(*seconds)).expect("a String");
    }
    text
}

fn clock(seconds: u64) -> String {
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn name(action: &Action) -> String {
    match action {
        Action::Start => "start".into(),
        Action::Advance(step) => format!("advance to {}", step + 1),
        Action::StartBake => "bake".into(),
        Action::Complete => "complete".into(),
        Action::Pause(_) => "pause".into(),
        Action::ExtendPause => "extend pause".into(),
        Action::Resume => "resume".into(),
        Action::Rollback(cause) => format!("rollback ({})", cause.as_str()),
        other => other.name().into(),
    }
}

fn show(state: &DeploymentState) -> String {
    match state {
        DeploymentState::Running { stage: Step(step), .. } => format!("step {}", step + 1),
        DeploymentState::Paused { stage: Step(step), .. } => format!("paused at {}", step + 1),
        DeploymentState::Paused { stage: Bake, .. } => "paused baking".into(),
        other => other.as_str().into(),
    }
}

#[track_caller]
fn check(spec: &DeploymentSpec, looks: &[(u64, Said)], expected: &str) {
    assert_lines(&timeline(spec, looks), expected);
}

#[track_caller]
fn assert_lines(actual: &str, expected: &str) {
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|l| !l.is_empty()).collect()
    };
    assert!(lines(actual) == lines(expected), "the timeline was\n{actual}\nexpected\n{expected}");
}

#[test]
fn a_ramp_climbs_while_its_guards_pass_and_bakes_at_the_end() {
    let spec = a_spec();
    let looks =
        [(0, S), (MIN, P), (10 * MIN, P), (11 * MIN, S), (39 * MIN, P), (40 * MIN, P), (99 * MIN, P), (100 * MIN, P)];
    check(
        &spec,
        &looks,
        "0:00:00 silent -            step 1    1%   due 0:10:00
         0:01:00 pass   -            step 1    1%   due 0:10:00
         0:10:00 pass   advance to 2 step 2    5%   due 0:40:00
         0:11:00 silent -            step 2    5%   due 0:40:00
         0:39:00 pass   -            step 2    5%   due 0:40:00
         0:40:00 pass   advance to 3, bake baking 100% due 1:40:00
         1:39:00 pass   -            baking    100% due 1:40:00
         1:40:00 pass   complete     completed 100% due -",
    );
}

#[test]
fn silence_holds_a_step_and_the_bake_however_late_it_is() {
    let spec = a_spec();
    check(
        &spec,
        &[(10 * MIN, S), (50 * MIN, S), (51 * MIN, P), (81 * MIN, P), (200 * MIN, S), (201 * MIN, P)],
        "0:10:00 silent -            step 1 1% due 0:10:00
         0:50:00 silent -            step 1 1% due 0:10:00
         0:51:00 pass   advance to 2 step 2 5% due 1:21:00
         1:21:00 pass   advance to 3, bake baking 100% due 2:21:00
         3:20:00 silent -            baking 100% due 2:21:00
         3:21:00 pass   complete     completed 100% due -",
    );
}

#[test]
fn one_late_look_does_not_skip_a_step_s_hold() {
    check(
        &a_spec(),
        &[(500 * MIN, P), (501 * MIN, P)],
        "8:20:00 pass advance to 2 step 2 5% due 8:50:00
         8:21:00 pass -            step 2 5% due 8:50:00",
    );
}

#[test]
fn a_breach_rolls_back_at_once_and_for_good() {
    check(
        &a_spec(),
        &[(MIN, P), (MIN + 1, B), (MIN + 2, P), (60 * MIN, P), (61 * MIN, B)],
        "0:01:00 pass   -                step 1      1% due 0:10:00
         0:01:01 breach rollback (guard) rolled_back 0% due -
         0:01:02 pass   -                rolled_back 0% due -
         1:00:00 pass   -                rolled_back 0% due -
         1:01:00 breach -                rolled_back 0% due -",
    );
}

#[test]
fn a_breach_counts_during_the_bake_too_but_not_after_it() {
    let spec = DeploymentSpec { steps: vec![step(100_000, None)], ..a_spec() };
    check(
        &spec,
        &[(0, S), (30 * MIN, B)],
        "0:00:00 silent bake             baking      100% due 1:00:00
         0:30:00 breach rollback (guard) rolled_back 0%   due -",
    );
    check(
        &spec,
        &[(0, S), (60 * MIN, P), (61 * MIN, B)],
        "0:00:00 silent bake     baking    100% due 1:00:00
         1:00:00 pass   complete completed 100% due -
         1:01:00 breach -        completed 100% due -",
    );
}

#[test]
fn without_guards_time_alone_decides() {
    let spec = DeploymentSpec { guards: vec![], ..a_spec() };
    check(
        &spec,
        &[(9 * MIN, S), (10 * MIN, S), (40 * MIN, S), (100 * MIN, S)],
        "0:09:00 silent -            step 1 1% due 0:10:00
         0:10:00 silent advance to 2 step 2 5% due 0:40:00
         0:40:00 silent advance to 3, bake baking 100% due 1:40:00
         1:40:00 silent complete     completed 100% due -",
    );
}

#[test]
fn an_unguarded_immediate_deployment_is_done_at_once() {
    let spec = DeploymentSpec {
        strategy: crate::control::model::Strategy::Immediate,
        steps: vec![step(100_000, None)],
        bake: Duration::ZERO,
        guards: vec![],
        ..a_spec()
    };
    check(&spec, &[(0, S)], "0:00:00 silent bake, complete completed 100% due -");
    // With guards it stays on trial until they have something to say, though it need not bake.
    let guarded = DeploymentSpec { guards: vec![guard()], ..spec };
    check(
        &guarded,
        &[(0, S), (MIN, S), (2 * MIN, P)],
        "0:00:00 silent bake     baking    100% due 0:00:00
         0:01:00 silent -        baking    100% due 0:00:00
         0:02:00 pass   complete completed 100% due -",
    );
}

#[test]
fn a_step_without_a_hold_waits_for_an_operator() {
    let spec = DeploymentSpec { steps: vec![step(5_000, None), step(100_000, None)], ..a_spec() };
    check(
        &spec,
        &[(0, P), (1_000 * MIN, P), (1_001 * MIN, B)],
        "0:00:00  pass   -                step 1      5% due -
         16:40:00 pass   -                step 1      5% due -
         16:41:00 breach rollback (guard) rolled_back 0% due -",
    );
}

#[test]
fn a_last_step_with_a_hold_is_held_before_the_bake() {
    let spec = DeploymentSpec { steps: vec![step(100_000, Some(10 * MIN))], ..a_spec() };
    check(
        &spec,
        &[(0, P), (10 * MIN, S), (11 * MIN, P)],
        "0:00:00 pass   -    step 1 100% due 0:10:00
         0:10:00 silent -    step 1 100% due 0:10:00
         0:11:00 pass   bake baking 100% due 1:11:00",
    );
}

#[test]
fn a_word_about_one_stage_says_nothing_of_the_next() {
    let steps = vec![step(1_000, Some(0)), step(5_000, Some(0)), step(100_000, None)];
    let spec = DeploymentSpec { steps, bake: Duration::ZERO, ..a_spec() };
    check(
        &spec,
        &[(0, P), (1, S), (2, P), (3, P)],
        "0:00:00 pass   advance to 2       step 2    5%   due 0:00:00
         0:00:01 silent -                  step 2    5%   due 0:00:00
         0:00:02 pass   advance to 3, bake baking    100% due 0:00:02
         0:00:03 pass   complete           completed 100% due -",
    );
}

#[test]
fn a_pause_freezes_the_weight_and_ends_once_guards_pass_and_the_cooldown_is_over() {
    let spec = DeploymentSpec { on_breach: OnBreach::Pause, cooldown: Duration::from_secs(5 * MIN), ..a_spec() };
    check(
        &spec,
        &[(9 * MIN, B), (10 * MIN, P), (12 * MIN, B), (14 * MIN, P), (17 * MIN, S), (18 * MIN, P), (28 * MIN, P)],
        "0:09:00 breach pause        paused at 1 1% due 0:14:00
         0:10:00 pass   -            paused at 1 1% due 0:14:00
         0:12:00 breach extend pause paused at 1 1% due 0:17:00
         0:14:00 pass   -            paused at 1 1% due 0:17:00
         0:17:00 silent -            paused at 1 1% due 0:17:00
         0:18:00 pass   resume       step 1      1% due 0:28:00
         0:28:00 pass   advance to 2 step 2      5% due 0:58:00",
    );
}

#[test]
fn a_pause_without_a_cooldown_waits_for_an_operator() {
    let spec = DeploymentSpec { on_breach: OnBreach::Pause, cooldown: Duration::ZERO, ..a_spec() };
    check(
        &spec,
        &[(MIN, B), (2 * MIN, P), (999 * MIN, P)],
        "0:01:00  breach pause paused at 1 1% due -
         0:02:00  pass   -     paused at 1 1% due -
         16:39:00 pass   -     paused at 1 1% due -",
    );
}

#[test]
fn a_bake_can_be_paused_and_then_begins_anew() {
    let steps = vec![step(100_000, None)];
    let spec = DeploymentSpec { steps, on_breach: OnBreach::Pause, cooldown: Duration::from_secs(5 * MIN), ..a_spec() };
    check(
        &spec,
        &[(0, S), (59 * MIN, B), (64 * MIN, P), (65 * MIN, P), (124 * MIN, P)],
        "0:00:00 silent bake     baking        100% due 1:00:00
         0:59:00 breach pause    paused baking 100% due 1:04:00
         1:04:00 pass   resume   baking        100% due 2:04:00
         1:05:00 pass   -        baking        100% due 2:04:00
         2:04:00 pass   complete completed     100% due -",
    );
}

#[test]
fn a_wait_ends_by_time_alone() {
    let start = Moment { instant: Instant::now(), wall: SystemTime::UNIX_EPOCH };
    let until = start.checked_add(Duration::from_secs(5 * MIN)).expect("near");
    let waiting = DeploymentState::Waiting { until };
    let looks = [(0, S), (4 * MIN, B), (5 * MIN, S), (6 * MIN, P), (15 * MIN, P)];
    assert_lines(
        &timeline_from(&a_spec(), start, waiting, &looks),
        "0:00:00 silent -            waiting 0% due 0:05:00
         0:04:00 breach -            waiting 0% due 0:05:00
         0:05:00 silent start        step 1  1% due 0:15:00
         0:06:00 pass   -            step 1  1% due 0:15:00
         0:15:00 pass   advance to 2 step 2  5% due 0:45:00",
    );
}
