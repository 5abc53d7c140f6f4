//! `pointsman ctl` against a real instance: exit codes, output, and what it says when things go wrong.

use serde_json::Value;

use super::process::{Ended, File, Process, Proxy, command, pointsman};
use crate::harness::{Endpoint, PATIENCE, eventually, ok, status, unused_address};

/// A stable version that answers, and a new one that fails.
struct Instance {
    proxy: Proxy,
    server: String,
    _endpoints: [Endpoint; 2],
}

fn agents(endpoints: &[Endpoint; 2]) -> String {
    let [old, new] = endpoints.each_ref().map(Endpoint::url);
    format!(
        "agents:\n  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{old}'] }}\n      2.0.0: {{ endpoints: ['{new}'] }}\n    stable: 1.0.0\n"
    )
}

impl Instance {
    fn start() -> Self {
        let endpoints = [Endpoint::saying("old"), Endpoint::answering(|_| status(500))];
        let proxy = Proxy::with_yaml(&agents(&endpoints));
        Self { server: format!("http://{}", proxy.admin), proxy, _endpoints: endpoints }
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["ctl", "--server", &self.server], arguments].concat()
    }

    fn ctl(&self, arguments: &[&str]) -> Ended {
        pointsman(&self.arguments(arguments))
    }

    /// One that must succeed; what it wrote.
    fn done(&self, arguments: &[&str]) -> String {
        let ended = self.ctl(arguments);
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{arguments:?}: {}", ended.out);
        assert!(!ended.out.contains('\x1b'), "escape codes without a terminal: {}", ended.out);
        ended.out
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let out = self.done(&[arguments, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    fn begin(&self, arguments: &[&str]) -> Process {
        Process::start(&mut command(&self.arguments(arguments)))
    }

    fn state(&self) -> Value {
        self.proxy.admin_get("/api/v1/agents/bot/deployment").json()["state"].clone()
    }
}

const HELD: [&str; 5] = ["deploy", "bot", "2.0.0", "--steps", "5%:1h,100%"];

#[test]
fn deploy_and_wait_ends_with_0_when_it_is_complete() {
    let instance = Instance::start();
    let out = instance.done(&["deploy", "bot", "2.0.0", "--steps", "5%:300ms,100%", "--bake", "0s", "--wait"]);
    for words in ["running, step 1 of 2, 5%", "completed, 100%"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert_eq!(instance.json(&["agents"])["items"][0]["stable"], "2.0.0");
    let points = instance.json(&["rollback-points", "bot"]);
    let point = points["items"][0]["id"].as_str().unwrap();
    assert!(instance.done(&["rollback-points", "bot"]).contains("1.0.0"), "{points}");
    instance.done(&["rollback", "bot", "--to", point, "--reason", "the old one was nicer"]);
    assert_eq!(instance.json(&["status", "bot"])["stable"], "1.0.0");
}

#[test]
fn deploy_and_wait_ends_with_2_when_a_guard_rolls_it_back() {
    let instance = Instance::start();
    let guard = "error_rate > 20% window=10s min=10";
    let deploy = ["deploy", "bot", "2.0.0", "--strategy", "immediate", "--bake", "1h", "--guard", guard, "--wait"];
    let waiting = instance.begin(&deploy);
    let mut client = instance.proxy.client();
    eventually("it is rolled back", || {
        client.get("/", "u1");
        instance.state() == "rolled_back"
    });
    let ended = waiting.ended(PATIENCE);
    assert_eq!((ended.code, ended.err.as_str()), (Some(2), ""), "{ended:?}");
    assert!(ended.out.contains("rolled_back, 0%: guard: error_rate above 20%"), "{}", ended.out);
    let verdicts = instance.done(&["verdicts", "bot"]);
    assert!(verdicts.starts_with("VERDICT") && verdicts.contains("\nbreach"), "{verdicts}");
}

#[test]
fn an_impatient_wait_ends_with_3_and_leaves_the_deployment() {
    let instance = Instance::start();
    let ended = instance.ctl(&[&HELD[..], &["--wait", "--timeout", "700ms"]].concat());
    assert_eq!((ended.code, ended.err.as_str()), (Some(3), ""), "{ended:?}");
    assert!(ended.out.contains("stays as it is (running, step 1 of 2, 5%)"), "{}", ended.out);
    assert_eq!(instance.state(), "running");
}

#[test]
fn ctrl_c_ends_the_wait_and_not_the_deployment() {
    let instance = Instance::start();
    let waiting = instance.begin(&[&HELD[..], &["--wait"]].concat());
    eventually("it shows progress", || waiting.out().contains("step 1 of 2"));
    waiting.signal("INT");
    let ended = waiting.ended(PATIENCE);
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.out.contains("stays as it is") && ended.out.contains("ctl wait bot"), "{}", ended.out);
    assert_eq!(instance.state(), "running");
}

#[test]
fn every_verb_does_what_it_says() {
    let instance = Instance::start();
    instance.done(&HELD);
    for (arguments, state, weight) in [
        (&["pause", "bot", "--reason", "lunch"][..], "paused", 5.0),
        (&["resume", "bot"], "running", 5.0),
        (&["set-weight", "bot", "12.5%"], "running", 12.5),
        (&["advance", "bot"], "baking", 100.0),
        (&["abort", "bot", "--reason", "enough"], "aborted", 0.0),
        (&["retry", "bot"], "running", 5.0),
        (&["rollback", "bot", "--reason", "no"], "rolled_back", 0.0),
        (&["retry", "bot"], "running", 5.0),
        (&["promote", "bot"], "completed", 100.0),
    ] {
        let out = instance.done(arguments);
        let now = instance.json(&["status", "bot"])["deployment"].clone();
        assert_eq!(
            (now["state"].as_str(), now["weightPercent"].as_f64()),
            (Some(state), Some(weight)),
            "{arguments:?}: {out}"
        );
        assert!(out.contains(state), "{arguments:?}: {out}");
    }
    let audit = instance.done(&["audit", "--agent", "bot"]);
    for words in ["SEQUENCE", "lunch", "enough"] {
        assert!(audit.contains(words), "{words}: {audit}");
    }
    assert_eq!(instance.json(&["audit", "--limit", "1"])["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_dry_run_says_what_would_change_and_changes_nothing() {
    let instance = Instance::start();
    let out = instance.done(&[&HELD[..], &["--dry-run"]].concat());
    assert!(out.starts_with("would: "), "{out}");
    assert_eq!(instance.json(&["deployments", "bot"])["items"], serde_json::json!([]));
    instance.done(&HELD);
    let emergency = ["emergency-rollback", "--environment", "production", "--reason", "drill"];
    let out = instance.done(&[&emergency[..], &["--dry-run"]].concat());
    assert!(out.starts_with("would: "), "{out}");
    assert_eq!(instance.state(), "running");
}

#[test]
fn an_emergency_rollback_wants_a_yes() {
    let instance = Instance::start();
    instance.done(&HELD);
    let emergency = ["emergency-rollback", "--environment", "production", "--reason", "fire"];
    let ended = instance.ctl(&emergency);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.err.contains("--yes"), "{ended:?}");
    assert_eq!(instance.state(), "running");
    let out = instance.done(&[&emergency[..], &["--yes"]].concat());
    assert!(out.contains("rolled_back"), "{out}");
    assert_eq!(instance.state(), "rolled_back");
    let nowhere = instance.ctl(&["emergency-rollback", "--reason", "fire", "--yes"]);
    assert!(nowhere.code == Some(1) && nowhere.err.contains("--environment"), "{nowhere:?}");
}

#[test]
fn refusals_name_every_field_and_the_remedy() {
    let instance = Instance::start();
    let wrong = ["deploy", "bot", "2.0.0", "--steps", "120%,100%", "--guard", "error_rat > 5%"];
    let ended = instance.ctl(&wrong);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
    for words in ["error: ", "120%", "error_rat"] {
        assert!(ended.err.contains(words), "{words}: {}", ended.err);
    }
    let refused = instance.ctl(&[&wrong[..], &["--json"]].concat());
    let problem: Value = serde_json::from_str(&refused.err).unwrap();
    assert!(problem["errors"].as_array().is_some_and(|errors| errors.len() >= 2), "{problem}");

    instance.done(&HELD);
    let second = instance.ctl(&HELD);
    assert_eq!((second.code, second.out.as_str()), (Some(1), ""), "{second:?}");
    assert!(second.err.contains("(409 ") && second.err.contains("ctl status"), "{}", second.err);
    let revision = instance.json(&["status", "bot"])["revision"].as_u64().unwrap();
    instance.done(&["pause", "bot", "--if-revision", &revision.to_string()]);
    let late = instance.ctl(&["abort", "bot", "--if-revision", &revision.to_string()]);
    assert!(late.code == Some(1) && late.err.contains("paused"), "what changed meanwhile: {late:?}");
    let unknown = instance.ctl(&["status", "bott"]);
    assert!(unknown.code == Some(1) && unknown.err.contains("did you mean \"bot\"?"), "{unknown:?}");
}

#[test]
fn a_token_is_taken_from_a_file_the_environment_or_an_option() {
    let endpoints = [Endpoint::saying("old"), Endpoint::answering(|_| ok("new"))];
    let file = File::new("");
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '127.0.0.1:0', token: sesame-open-the-door-1 }}\nworkers: 1\nstate_dir: {}\n{}",
        file.at("state").display(),
        agents(&endpoints)
    );
    std::fs::write(&file.path, yaml).unwrap();
    let proxy = Proxy::with_file(&file.path);
    let server = format!("http://{}", proxy.admin);
    let run = |arguments: &[&str], token: Option<&str>| {
        let mut command = command(&[&["ctl", "--server", &server, "agents"], arguments].concat());
        command.env_remove("POINTSMAN_TOKEN").envs(token.map(|token| ("POINTSMAN_TOKEN", token)));
        Process::start(&mut command).ended(PATIENCE)
    };
    let (right, wrong) = (file.at("right"), file.at("wrong"));
    std::fs::write(&right, "sesame-open-the-door-1\n").unwrap();
    std::fs::write(&wrong, "wrong").unwrap();
    let (right, wrong) = (right.to_str().unwrap(), wrong.to_str().unwrap());
    for (arguments, token, code) in [
        (&["--token", "sesame-open-the-door-1"][..], None, "wanted"),
        (&["--token-file", right], None, "wanted"),
        (&["--token-file", right], Some("wrong"), "wanted"),
        (&[], Some("sesame-open-the-door-1"), "wanted"),
        (&[], None, "token_wanted"),
        (&["--token", "wrong"], None, "wrong_token"),
        (&["--token-file", wrong], Some("sesame-open-the-door-1"), "wrong_token"),
    ] {
        let ended = run(arguments, token);
        if code == "wanted" {
            assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        } else {
            assert_eq!(ended.code, Some(1), "{arguments:?}: {ended:?}");
            assert!(ended.err.contains(code) && ended.err.contains("POINTSMAN_TOKEN"), "{arguments:?}: {ended:?}");
        }
    }
}

#[test]
fn nobody_there_and_wrong_arguments_are_1() {
    let nobody = format!("http://{}", unused_address());
    let ended = pointsman(&["ctl", "--server", &nobody, "agents"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.err.contains(&nobody) && ended.err.contains("pointsman run"), "{ended:?}");
    for arguments in
        [&["ctl", "paus", "bot"][..], &["ctl", "--server", "nowhere", "agents"], &["ctl", "set-weight", "bot", "5"]]
    {
        let ended = pointsman(arguments);
        assert_eq!(ended.code, Some(1), "2 is for what was rolled back: {ended:?}");
    }
    let help = pointsman(&["ctl", "--help"]);
    assert!(help.code == Some(0) && help.out.contains("Exit codes:"), "{help:?}");
}

#[test]
fn every_look_is_json_and_text() {
    let instance = Instance::start();
    instance.done(&[&HELD[..], &["--guard", "error_rate > 5%"]].concat());
    for arguments in [
        &["agents"][..],
        &["status", "bot"],
        &["table"],
        &["deployments", "bot"],
        &["verdicts", "bot"],
        &["explain", "bot", "--key", "u1"],
        &["explain", "bot", "--header", "x-user-id: u1"],
        &["rollback-points", "bot"],
        &["audit"],
    ] {
        assert!(instance.json(arguments).is_object(), "{arguments:?}");
        let text = instance.done(arguments);
        assert!(text.ends_with('\n') && !text.starts_with('{'), "{arguments:?}: {text}");
    }
}

#[test]
fn a_watch_follows_over_a_restart() {
    let endpoints = [Endpoint::saying("old"), Endpoint::saying("new")];
    let file = File::new("");
    let admin = unused_address();
    let yaml = format!(
        "listeners: [{{ address: '127.0.0.1:0' }}]\nadmin: {{ address: '{admin}' }}\nworkers: 1\nstate_dir: {}\n{}",
        file.at("state").display(),
        agents(&endpoints)
    );
    std::fs::write(&file.path, yaml).unwrap();
    let proxy = Proxy::with_file(&file.path);
    let server = format!("http://{admin}");
    let ctl = |arguments: &[&str]| [&["ctl", "--server", &server], arguments].concat().join(" ");
    let run = |arguments: &[&str]| {
        let line = ctl(arguments);
        let ended = pointsman(&line.split(' ').collect::<Vec<_>>());
        assert_eq!(ended.code, Some(0), "{ended:?}");
    };
    let line = ctl(&["watch", "bot", "--json"]);
    let watch = Process::start(&mut command(&line.split(' ').collect::<Vec<_>>()));
    let seen = |what: &str| watch.out().lines().any(|line| line.contains(&format!("\"what\":\"{what}\"")));
    // The stream has begun when an event comes; until then, more of them do no harm.
    run(&HELD);
    eventually("a change is seen", || {
        run(&["pause", "bot"]);
        run(&["resume", "bot"]);
        seen("paused")
    });
    proxy.stop();
    let again = Proxy::with_file(&file.path);
    eventually("the watch has come back", || seen("missed") || watch.err().contains("does not answer"));
    eventually("a change after the restart is seen", || {
        run(&["pause", "bot"]);
        run(&["resume", "bot"]);
        let lines = watch.out();
        lines.split_once("\"what\":\"missed\"").is_some_and(|(_, later)| later.contains("\"what\":\"paused\""))
    });
    for line in watch.out().lines() {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["id"].is_string() && event["data"].is_object(), "{event}");
    }
    watch.signal("INT");
    assert_eq!(watch.ended(PATIENCE).code, Some(0));
    again.stop();
}
