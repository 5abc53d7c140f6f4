//! Answers and what follows from them. Against the real server: tests/integration/prometheus.rs.

use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::control::client::Answer;
use crate::control::fixture::an_agent;

const SECOND: Duration = Duration::from_secs(1);

fn read(status: u16, body: &str) -> Result<f64, NoData> {
    let status = StatusCode::from_u16(status).expect("a status");
    answer::read(&Answer { status, body: body.into(), truncated: false })
}

fn success(data: &str) -> Result<f64, NoData> {
    read(200, &format!(r#"{{"status":"success","data":{data}}}"#))
}

#[test]
fn one_number_is_an_answer() {
    let scalar = |number| success(&format!(r#"{{"resultType":"scalar","result":[1435781451.781,"{number}"]}}"#));
    let vector = |number| {
        success(&format!(r#"{{"resultType":"vector","result":[{{"metric":{{"job":"x"}},"value":[1.5,"{number}"]}}]}}"#))
    };
    for (text, number) in [("0.05", 0.05), ("1e-7", 1e-7), ("+Inf", f64::INFINITY), ("-Inf", f64::NEG_INFINITY)] {
        assert_eq!((scalar(text), vector(text)), (Ok(number), Ok(number)), "{text}");
    }
    assert_eq!(vector("NaN"), Err(NoData::NotANumber));
    assert!(matches!(vector("many"), Err(NoData::BadAnswer(_))));
}

#[test]
fn all_else_is_no_data_and_says_why() {
    let series = r#"{"metric":{},"value":[1,"1"]}"#;
    let vector = |series: &[&str]| success(&format!(r#"{{"resultType":"vector","result":[{}]}}"#, series.join(",")));
    assert_eq!(vector(&[]), Err(NoData::Empty));
    assert_eq!(vector(&[series, series, series]), Err(NoData::SeveralSeries(3)));
    assert!(matches!(vector(&[r#"{"metric":{},"histogram":[1,{"count":"1"}]}"#]), Err(NoData::BadQuery(_))));
    assert!(matches!(success(r#"{"resultType":"matrix","result":[]}"#), Err(NoData::BadQuery(_))));
    assert!(matches!(success(r#"{"resultType":"string","result":[1,"x"]}"#), Err(NoData::BadQuery(_))));
    let error = r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#;
    assert_eq!(read(400, error), Err(NoData::BadQuery("parse error".into())));
    assert_eq!(read(503, error), Err(NoData::Unreachable("parse error".into())), "the server, not the query");
    for (status, body) in [(200, "<html>"), (200, ""), (502, "{}"), (200, "[]"), (404, "{\"data\":null}")] {
        assert!(matches!(read(status, body), Err(NoData::BadAnswer(_))), "{body}");
    }
    let long = Answer { status: StatusCode::OK, body: vec![], truncated: true };
    assert!(matches!(answer::read(&long), Err(NoData::BadAnswer(_))));
}

proptest! {
    #[test]
    fn no_answer_is_too_strange(status in 100u16..600, body in ".{0,80}") {
        let _ = read(status, &body);
        let _ = success(&body);
    }
}

fn guard(limit: QueryLimit, failures: u32) -> QueryGuard {
    let query = "errors{v='{{version}}', s='{{stable}}', a='{{agent}}', e='{{environment}}'}[{{interval}}]".into();
    QueryGuard { name: Some("errors".into()), query, limit, interval: 90 * SECOND, failures }
}

fn queries(guard: &QueryGuard) -> (Queries, Moment) {
    let (now, agent) = (Moment::now(), an_agent());
    let version = VersionId::new("1.5.0");
    let queries = Queries::new(
        std::slice::from_ref(guard),
        &AgentKey::of(&agent),
        &version,
        &agent.stable,
        &SharedServer::default(),
        now,
    );
    (queries, now)
}

fn later(now: Moment, seconds: u32) -> Instant {
    now.instant + seconds * SECOND
}

#[test]
fn names_are_filled_in() {
    let (queries, _) = queries(&guard(QueryLimit::Above(1.0), 1));
    let query = &queries.readings()[0].query;
    assert_eq!(query, "errors{v='1.5.0', s='1.4.2', a='support-bot', e='production'}[1m30s]");
}

#[test]
fn so_many_bad_answers_in_a_row_are_a_breach_and_it_is_kept() {
    let (queries, now) = queries(&guard(QueryLimit::Above(0.05), 2));
    let query = &queries.queries[0];
    assert_eq!(queries.verdict(), Verdict::Hold);
    query.record(later(now, 1), Ok(0.05));
    assert_eq!(queries.verdict(), Verdict::Pass, "the limit itself is kept");
    query.record(later(now, 2), Ok(0.06));
    assert_eq!((queries.verdict(), queries.readings()[0].evidence), (Verdict::Hold, 0.5));
    query.record(later(now, 3), Ok(0.01));
    query.record(later(now, 4), Ok(0.06));
    // What is no data neither counts nor interrupts.
    query.record(later(now, 5), Err(NoData::Empty));
    assert_eq!((queries.verdict(), queries.breach()), (Verdict::Hold, None));
    query.record(later(now, 6), Ok(0.31));
    assert_eq!(queries.verdict(), Verdict::Breach);
    let breach = queries.breach().expect("a reading");
    assert_eq!(breach.explanation, "errors above 0.05: 0.31; 2 of 2 bad answers in a row; breach");
    query.record(later(now, 7), Ok(0.0));
    assert_eq!((queries.verdict(), queries.breach()), (Verdict::Breach, Some(breach)), "no look can miss it");

    queries.start_anew(Moment { instant: later(now, 8), ..now });
    assert_eq!((queries.verdict(), queries.breach()), (Verdict::Hold, None), "only later answers count");
    query.record(later(now, 7), Ok(0.9));
    query.record(later(now, 9), Ok(0.9));
    assert_eq!((queries.verdict(), queries.readings()[0].bad_in_a_row), (Verdict::Hold, 1));
    query.record(later(now, 10), Ok(0.0));
    assert_eq!(queries.verdict(), Verdict::Pass);
}

#[test]
fn below_is_a_limit_from_the_other_side() {
    let (queries, now) = queries(&guard(QueryLimit::Below(0.99), 1));
    queries.queries[0].record(later(now, 1), Ok(0.99));
    assert_eq!(queries.verdict(), Verdict::Pass);
    queries.queries[0].record(later(now, 2), Ok(0.5));
    assert_eq!(queries.verdict(), Verdict::Breach);
}

#[test]
fn a_step_passes_on_an_answer_to_its_own_question() {
    let (queries, now) = queries(&guard(QueryLimit::Above(0.05), 1));
    queries.queries[0].record(later(now, 1), Ok(0.0));
    assert_eq!(queries.verdict(), Verdict::Pass);
    queries.step_started(Moment { instant: later(now, 2), ..now });
    assert_eq!(queries.verdict(), Verdict::Hold);
    assert!(queries.readings()[0].explanation.ends_with("asked before this step began"));
    queries.queries[0].record(later(now, 3), Ok(0.0));
    assert_eq!(queries.verdict(), Verdict::Pass);
}

#[test]
fn no_data_is_never_a_breach_and_never_a_pass_and_is_seen() {
    let (queries, now) = queries(&guard(QueryLimit::Below(1.0), 1));
    let reasons = [
        NoData::NoServer,
        NoData::Unreachable("refused".into()),
        NoData::TimedOut(SECOND),
        NoData::BadQuery("parse error".into()),
        NoData::BadAnswer("x".into()),
        NoData::Empty,
        NoData::SeveralSeries(2),
        NoData::NotANumber,
    ];
    for (second, why) in (1..).zip(reasons) {
        queries.queries[0].record(later(now, second), Err(why.clone()));
        assert_eq!((queries.verdict(), queries.breach()), (Verdict::Hold, None), "{why}");
        let reading = &queries.readings()[0];
        assert_eq!((reading.value, reading.no_data.clone()), (None, Some(why.to_string())));
        assert!(reading.explanation.contains(&why.to_string()), "{}", reading.explanation);
    }
}

#[test]
fn a_reading_can_be_written_down_and_read_back() {
    let (queries, now) = queries(&guard(QueryLimit::Above(0.05), 1));
    queries.queries[0].record(later(now, 1), Ok(f64::INFINITY));
    let reading = QueryReading { answered_at: None, ..(*queries.breach().expect("a breach")).clone() };
    let text = serde_json::to_string(&reading).expect("plain data");
    let back: QueryReading = serde_json::from_str(&text).expect("what was written");
    assert_eq!(back, QueryReading { value: None, ..reading }, "JSON has no infinity");
}
