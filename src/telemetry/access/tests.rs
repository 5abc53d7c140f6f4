//! Real files in a temporary directory, and targets that refuse or hang.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::mpsc::{Sender, channel};

use super::*;

fn record(path: &str) -> AccessRecord {
    AccessRecord {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
        client: IpAddr::from([192, 0, 2, 7]),
        protocol: "HTTP/1.1",
        method: http::Method::POST,
        host: Some("support.example.com".to_owned()),
        path: path.to_owned(),
        environment: "production".into(),
        agent: Some("support-bot".into()),
        version: Some("1.5.0".into()),
        bucket: Some(4_242),
        reason: Some("split"),
        epoch: 7,
        status: Some(200),
        outcome: Some(Outcome::Success),
        error: None,
        duration_us: 1_500_000,
        ttfb_us: Some(80_000),
        stream: Some(StreamEnd::Complete),
        ttft_us: Some(90_000),
        input_tokens: Some(12),
        output_tokens: Some(340),
        model: Some("gpt-5".to_owned()),
        request_bytes: 120,
        response_bytes: 4_096,
        endpoint: Some("http://127.0.0.1:7002".to_owned()),
        retries: 1,
        request_id: Some("r-1".to_owned()),
        user_agent: Some("curl/8".to_owned()),
    }
}

fn json(record: &AccessRecord) -> serde_json::Value {
    serde_json::to_value(record).expect("a record can be written down")
}

fn paths(file: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("the log is there");
    assert!(text.is_empty() || text.ends_with('\n'), "a whole last line");
    let path = |line| {
        let value: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        value["path"].as_str().expect("each record has a path").to_owned()
    };
    text.lines().map(path).collect()
}

/// A target that takes what a test lets it, and tells of each write.
struct Gate {
    answers: std::sync::mpsc::Receiver<io::Result<usize>>,
    seen: Sender<Vec<u8>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // No answer any more: everything is taken.
        let result = self.answers.recv().unwrap_or(Ok(usize::MAX)).map(|n| n.min(bytes.len()));
        let taken = *result.as_ref().unwrap_or(&0);
        let _ = self.seen.send(bytes[..taken].to_vec());
        result
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (Sender<io::Result<usize>>, std::sync::mpsc::Receiver<Vec<u8>>, AccessLog) {
    let (allow, answers) = channel();
    let (seen, writes) = channel();
    let log = AccessLog::start_with(writer::Sink::to(Gate { answers, seen }), 1.0).expect("a thread can start");
    (allow, writes, log)
}

/// Waits for what another thread does. The limit only turns a hang into a failure.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not in 30 s: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_record_has_the_documented_fields_and_no_other() {
    let full = AccessRecord { error: Some(ErrorCode::UpstreamReset), ..record("/v1/chat") };
    let value = json(&full);
    let found: Vec<_> = value.as_object().expect("an object").keys().cloned().collect();
    let page = include_str!("../access.rs");
    let rows = page.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let mut documented: Vec<String> = rows
        .flat_map(|row| row.split(" | ").next().unwrap_or_default().split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect();
    documented.sort();
    assert_eq!(found, documented);
    assert_eq!(value["time"], "2023-11-14T22:13:20.123Z");
    assert_eq!((&value["outcome"], &value["error"]), (&"success".into(), &"upstream_reset".into()));
    assert_eq!((&value["client"], &value["method"]), (&"192.0.2.7".into(), &"POST".into()));
}

#[test]
fn what_is_not_known_is_absent_rather_than_null() {
    let bare = AccessRecord {
        host: None,
        agent: None,
        version: None,
        bucket: None,
        reason: None,
        status: None,
        outcome: None,
        ttfb_us: None,
        stream: None,
        ttft_us: None,
        input_tokens: None,
        output_tokens: None,
        model: None,
        endpoint: None,
        request_id: None,
        user_agent: None,
        ..record("/")
    };
    let value = json(&bare);
    assert!(value.as_object().expect("an object").values().all(|v| !v.is_null()), "{value}");
    assert!(value.get("agent").is_none() && value.get("ttfb_us").is_none());
}

#[test]
fn a_wrong_clock_is_no_panic() {
    let day = Duration::from_secs(86_400);
    for (time, shown) in [
        (SystemTime::UNIX_EPOCH - day, "1970-01-01T00:00:00.000Z"),
        (SystemTime::UNIX_EPOCH + day * 366 * 9_000, "9999-12-31T23:59:59.000Z"),
    ] {
        assert_eq!(json(&AccessRecord { time, ..record("/") })["time"], shown);
    }
}

#[test]
fn long_texts_are_cut_between_characters() {
    let mut long = record(&format!("/{}", "é".repeat(PATH_BYTES)));
    long.user_agent = Some("x".repeat(32 << 10));
    long.cut();
    assert_eq!(long.path.len(), PATH_BYTES - 1, "not within the two bytes of an é");
    assert_eq!(long.user_agent.as_deref().map(str::len), Some(TEXT_BYTES));
    assert_eq!(long.host.as_deref(), Some("support.example.com"));
}

#[test]
fn everything_pushed_before_a_stop_is_in_the_file_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("access.log");
    std::fs::write(&file, "").expect("an empty file");
    let log = AccessLog::start(AccessTarget::File(file.clone()), 1.0).expect("the file can be opened");
    let wanted: Vec<String> = (0..2_000).map(|n| format!("/{n}")).collect();
    for path in &wanted {
        log.push(record(path));
    }
    assert!(log.stop());
    assert_eq!(paths(&file), wanted);
    let counters = log.counters();
    assert_eq!((counters.written(), counters.dropped(), counters.failed()), (2_000, 0, 0));
    log.push(record("/late"));
    assert_eq!(counters.dropped(), 1, "after the stop nothing is written");
    assert!(log.stop(), "a second stop has nothing to wait for");
}

#[test]
fn every_workers_records_arrive_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("access.log");
    let log = AccessLog::start(AccessTarget::File(file.clone()), 1.0).expect("the file can be opened");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let log = log.clone();
            scope.spawn(move || (0..500).for_each(|n| log.push(record(&format!("/{worker}/{n}")))));
        }
    });
    assert!(log.stop());
    let mut by_worker = HashMap::<String, usize>::new();
    for path in paths(&file) {
        let worker = path.split('/').nth(1).unwrap_or_default().to_owned();
        let next = by_worker.entry(worker).or_default();
        assert!(path.ends_with(&format!("/{next}")), "each worker's records keep their order");
        *next += 1;
    }
    assert_eq!(by_worker.values().sum::<usize>(), 2_000);
}

#[test]
fn a_rotated_file_is_left_for_a_new_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let log = AccessLog::start(AccessTarget::File(file.clone()), 1.0).expect("the file can be opened");
    log.push(record("/before"));
    until("the first record is written", || log.counters().written() == 1);
    std::fs::rename(&file, &old).expect("a rotation");
    log.reopen();
    until("the file is there again", || file.exists());
    log.push(record("/after"));
    assert!(log.stop());
    assert_eq!((paths(&old), paths(&file)), (vec!["/before".to_owned()], vec!["/after".to_owned()]));
}

#[test]
fn where_a_reopen_fails_the_old_file_serves_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let (logs, moved) = (dir.path().join("logs"), dir.path().join("moved"));
    std::fs::create_dir(&logs).expect("a directory");
    let log = AccessLog::start(AccessTarget::File(logs.join("access.log")), 1.0).expect("the file can be opened");
    std::fs::rename(&logs, &moved).expect("the directory moves");
    log.reopen();
    log.push(record("/on"));
    assert!(log.stop());
    assert_eq!(paths(&moved.join("access.log")), ["/on"]);
}

#[test]
fn a_target_that_cannot_be_opened_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(AccessLog::start(AccessTarget::File(dir.path().join("no/such/dir.log")), 1.0).is_err());
    assert!(AccessLog::start(AccessTarget::File(dir.path().to_owned()), 1.0).is_err(), "a directory");
}

#[test]
fn a_full_queue_drops_and_counts_and_never_blocks() {
    let (allow, writes, log) = gate();
    let pushed = 3 * QUEUE_RECORDS as u64;
    // The writer hangs in its first write, so the queue fills up; each push still comes back.
    for n in 0..pushed {
        log.push(record(&format!("/{n}")));
    }
    let dropped = log.counters().dropped();
    assert!(dropped > 0 && dropped < pushed, "{dropped} dropped");
    drop(allow);
    assert!(log.stop());
    let lines = writes.iter().map(|bytes| bytes.iter().filter(|b| **b == b'\n').count() as u64);
    // The writer is done and its end of the channel closed, so this counts all writes and ends.
    assert_eq!(lines.sum::<u64>(), pushed - dropped);
    assert_eq!(log.counters().written(), pushed - dropped);
}

#[test]
fn a_stop_does_not_wait_for_a_target_that_hangs() {
    let (allow, _writes, log) = gate();
    log.push(record("/stuck"));
    assert!(!log.stop(), "gave up after its time-out");
    drop(allow);
}

#[test]
fn write_errors_are_counted_and_the_log_goes_on() {
    let (allow, writes, log) = gate();
    allow.send(Err(io::ErrorKind::StorageFull.into())).expect("the gate listens");
    log.push(record("/lost"));
    assert_eq!(writes.recv().expect("a write"), b"");
    // Ten bytes of a line, then full again: the next batch begins on a line of its own.
    allow.send(Ok(10)).expect("the gate listens");
    allow.send(Err(io::ErrorKind::StorageFull.into())).expect("the gate listens");
    log.push(record("/torn"));
    assert_eq!(writes.recv().expect("a write").len(), 10);
    assert_eq!(writes.recv().expect("a write"), b"");
    drop(allow);
    log.push(record("/whole"));
    let third = writes.recv().expect("a write");
    assert_eq!(third.first(), Some(&b'\n'));
    let value: serde_json::Value = serde_json::from_slice(&third).expect("a whole line");
    assert_eq!(value["path"], "/whole");
    assert!(log.stop());
    let counters = log.counters();
    assert_eq!((counters.written(), counters.failed(), counters.dropped()), (1, 2, 0));
}

#[test]
fn interrupted_and_short_writes_lose_nothing() {
    let (allow, writes, log) = gate();
    allow.send(Err(io::ErrorKind::Interrupted.into())).expect("the gate listens");
    allow.send(Ok(3)).expect("the gate listens");
    drop(allow);
    log.push(record("/one"));
    assert!(log.stop());
    drop(log);
    let bytes: Vec<u8> = writes.iter().flatten().collect();
    let value: serde_json::Value = serde_json::from_slice(&bytes).expect("a whole line");
    assert_eq!(value["path"], "/one");
}

#[test]
fn errors_are_always_wanted_and_the_rest_by_share() {
    let wants = |share: f64, random| Sample::new(share).takes(random);
    for random in [0, 1, u64::MAX / 2, u64::MAX] {
        assert!(wants(1.0, random) && wants(7.0, random));
        assert!(!wants(0.0, random) && !wants(-1.0, random) && !wants(f64::NAN, random));
    }
    assert!(wants(0.25, u64::MAX / 4) && !wants(0.25, u64::MAX / 4 + 2));
    assert!(wants(0.5, u64::MAX / 2) && !wants(0.5, u64::MAX / 2 + 2));

    let (_allow, _writes, log) = gate();
    assert!(log.wants(true, u64::MAX));
    let none = AccessLog { sample: Sample::new(0.0), ..log };
    assert!(none.wants(true, 0) && !none.wants(false, 0));
}
