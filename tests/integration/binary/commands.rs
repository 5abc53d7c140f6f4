//! The subcommands that do their work and end.

use std::collections::BTreeSet;
use std::time::Duration;

use super::process::{File, Process, Proxy, command, pointsman, pointsman_reading};
use crate::harness::Endpoint;

#[test]
fn check_of_good_files_says_ok() {
    let ended = pointsman(&["check", "config/quickstart.yaml", "config/canary.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines: Vec<_> = ended.out.lines().collect();
    assert_eq!(
        lines,
        ["config/quickstart.yaml: ok (1 agent, 0 deployments)", "config/canary.yaml: ok (1 agent, 1 deployment)"]
    );
    assert_eq!(ended.err, "");
}

#[test]
fn check_takes_the_file_that_run_would_take() {
    let mut check = command(&["check"]);
    let ended = Process::start(check.env("POINTSMAN_CONFIG", "config/quickstart.yaml")).ended(Duration::from_secs(20));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.out.starts_with("config/quickstart.yaml: ok"), "{ended:?}");
    let none = pointsman(&["check"]);
    assert!(none.code == Some(1) && none.err.starts_with("pointsman.yaml: "), "{none:?}");
}

const BAD: &str = "\
listeners: [{ adress: '127.0.0.1:0' }]
agents:
  bot:
    versions:
      1.0.0: { endpoints: ['nonsense'] }
    stable: 1.0.1
";

#[test]
fn check_prints_every_error_with_its_place() {
    let file = File::new(BAD);
    let ended = pointsman(&["check", file.path(), "config/quickstart.yaml"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for (place, words) in [("1:15", "address"), ("5:28", "nonsense"), ("6:13", "1.0.0")] {
        let start = format!("{}:{place}: ", file.path());
        let line = ended.err.lines().find(|line| line.starts_with(&start));
        assert!(line.is_some_and(|line| line.contains(words)), "{start} with {words:?} in {}", ended.err);
    }
    assert_eq!(
        ended.out, "config/quickstart.yaml: ok (1 agent, 0 deployments)\n",
        "the good one is checked all the same"
    );
}

#[test]
fn check_of_what_cannot_be_read_says_so() {
    let file = File::new("");
    std::fs::write(file.at("latin1.yaml"), b"agents: { caf\xe9: 1 }").unwrap();
    for path in [file.at("missing.yaml"), file.at("."), file.at("latin1.yaml")] {
        let ended = pointsman(&["check", path.to_str().unwrap()]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.out, "");
        assert!(ended.err.contains(path.to_str().unwrap()), "{ended:?}");
    }
}

#[test]
fn schema_is_json_schema_2020_12() {
    let ended = pointsman(&["schema"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let schema: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["properties"]["agents"].is_object(), "{}", ended.out);
}

/// What Python's hashlib and Node's crypto say of flag `support-bot` and salt `2026-q1`; the arms are of
/// weights 50%,30%,20%.
#[test]
fn bucket_gives_what_other_languages_give() {
    let keys = "u1\nu2\r\nalice@example.com\nuser-4711";
    for (scheme, known) in [
        ("sha1", [(88519, 2), (49343, 0), (65489, 1), (26388, 0)]),
        ("sha1-js", [(88544, 2), (49376, 0), (65440, 1), (26384, 0)]),
        ("launchdarkly", [(97679, 2), (51023, 1), (93381, 2), (6879, 0)]),
        ("murmur3", [(39601, 0), (92960, 2), (7323, 0), (63778, 1)]),
        ("md5", [(87437, 2), (81872, 2), (59507, 1), (77599, 1)]),
    ] {
        let arguments = ["bucket", "--scheme", scheme, "--flag", "support-bot", "--salt", "2026-q1"];
        let plain = pointsman_reading(&arguments, keys);
        let names = ["u1", "u2", "alice@example.com", "user-4711"];
        let lines: Vec<_> = names.iter().zip(known).map(|(key, (bucket, _))| format!("{key}\t{bucket}\n")).collect();
        assert_eq!((plain.code, plain.out), (Some(0), lines.concat()), "{scheme}: {}", plain.err);

        let weighted = pointsman_reading(&[&arguments[..], &["--weights", "50%,30%,20%"]].concat(), keys);
        let lines: Vec<_> =
            names.iter().zip(known).map(|(key, (bucket, arm))| format!("{key}\t{bucket}\t{arm}\n")).collect();
        assert_eq!((weighted.code, weighted.out), (Some(0), lines.concat()), "{scheme}: {}", weighted.err);
    }
}

#[test]
fn bucket_takes_a_seed_an_empty_key_and_no_key() {
    let seeded = ["bucket", "--scheme", "launchdarkly", "--flag", "x", "--seed", "61"];
    assert_eq!(pointsman_reading(&seeded, "u1\n").out, "u1\t56475\n");
    let plain = ["bucket", "--flag", "support-bot", "--salt", "2026-q1"];
    assert_eq!(pointsman_reading(&plain, "\n").out, "\t18624\n");
    let nothing = pointsman_reading(&plain, "");
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(0), ""));
}

/// The example's routing before endpoints of ours: the offline command, the admin side and the traffic itself
/// must say the same.
#[test]
fn explain_agrees_with_the_admin_side_and_with_traffic() {
    let (old, new) = (Endpoint::saying("old"), Endpoint::saying("new"));
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/quickstart.yaml")).unwrap();
    let ours = example.replace("http://127.0.0.1:7001", &old.url()).replace("http://127.0.0.1:7002", &new.url());
    assert!(ours.contains(&old.url()) && ours.contains(&new.url()), "the example has other endpoints now");
    let proxy = Proxy::with_yaml(&ours);
    let mut client = proxy.client();
    let mut versions = BTreeSet::new();
    for user in ["u1", "user-1", "user-2", "user-8", "user-28"] {
        let header = format!("x-user-id: {user}");
        let explain = ["explain", "--config", "config/quickstart.yaml", "--agent", "support-bot", "--header", &header];
        let json = pointsman(&[&explain[..], &["--json"]].concat());
        let offline: serde_json::Value = serde_json::from_str(&json.out).unwrap_or_else(|e| panic!("{e}: {json:?}"));
        let online = proxy.admin_get(&format!("/api/v1/agents/support-bot/explain?key={user}")).json();
        for field in ["bucket", "version", "reason", "because", "ranges"] {
            assert!(!offline[field].is_null(), "{field} in {offline}");
            assert_eq!(offline[field], online[field], "{field} of {user}");
        }
        let version = offline["version"].as_str().unwrap();
        assert_eq!(client.get("/", user).version(), version, "{user}");
        let text = pointsman(&explain);
        assert!(text.out.contains(&format!("version  {version}\n")), "{text:?}");
        assert!(text.out.contains(&format!("bucket   {} of 100000\n", offline["bucket"])), "{text:?}");
        versions.insert(version.to_owned());
    }
    assert_eq!(versions.len(), 2, "both versions should have been met");
}

#[test]
fn simulate_stays_within_four_sigma() {
    const KEYS: f64 = 200_000.0;
    for seed in ["1", "2", "3"] {
        let ended = pointsman(&["simulate", "--config", "config/canary.yaml", "--keys", "200000", "--seed", seed]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!ended.out.contains("OUTSIDE"), "{}", ended.out);
        let rows: Vec<Vec<&str>> = ended.out.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        let mut sum = 0.0;
        for (row, (version, share)) in rows.iter().zip([("1.4.2", 0.99), ("1.5.0", 0.01)]) {
            assert_eq!(row[..2], ["support-bot", version], "{}", ended.out);
            let got: f64 = row[4].parse().unwrap();
            let sigma = (KEYS * share * (1.0 - share)).sqrt();
            assert!((got - KEYS * share).abs() < 4.0 * sigma, "{}", ended.out);
            sum += got;
        }
        assert_eq!((rows.len(), sum), (2, KEYS), "{}", ended.out);
    }
}

#[test]
fn an_unknown_agent_is_answered_with_the_nearest() {
    for subcommand in ["explain", "simulate"] {
        let ended = pointsman(&[subcommand, "--config", "config/quickstart.yaml", "--agent", "suport-bot"]);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{subcommand}");
        assert!(ended.err.contains("did you mean \"support-bot\"?"), "{subcommand}: {}", ended.err);
    }
}

#[test]
fn wrong_arguments_exit_with_2() {
    for arguments in [
        &[][..],
        &["rnu"],
        &["schema", "extra"],
        &["bucket"],
        &["bucket", "--flag", "x", "--scheme", "sha2"],
        &["bucket", "--flag", "x", "--weights", "50%,half"],
        &["explain", "--header", "no colon"],
        &["explain", "--client", "nowhere"],
        &["simulate", "--keys", "0"],
        &["demo", "--seconds-per-step", "0"],
        &["run", "--log-format", "xml"],
    ] {
        let ended = pointsman(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains("--help"), "{arguments:?}: {}", ended.err);
    }
}

#[test]
fn arguments_that_do_not_fit_together_are_refused() {
    for (arguments, word) in [
        (&["bucket", "--flag", "x", "--weights", "50%,60%"][..], "--weights"),
        (&["bucket", "--flag", "x", "--seed", "61"], "--seed"),
        (&["run", "--log-level", "a=b=c"], "--log-level"),
        (&["explain", "--config", "config/quickstart.yaml", "--environment", "nowhere"], "the file has production"),
    ] {
        let ended = pointsman(arguments);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.starts_with("error: ") && ended.err.contains(word), "{arguments:?}: {}", ended.err);
    }
}

/// As in `pointsman schema | head -1`, but so that the reader is gone for certain.
#[test]
fn a_reader_that_is_gone_is_no_error_and_no_panic() {
    for (arguments, code) in [
        (&["schema"][..], 0),
        (&["check", "config/quickstart.yaml"], 0),
        (&["explain", "--config", "config/quickstart.yaml", "--key", "u1"], 0),
        (&["simulate", "--config", "config/quickstart.yaml", "--keys", "10"], 0),
        (&["demo", "--print-config"], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = Process::start(command(arguments).stdout(writer)).ended(Duration::from_secs(20));
        assert_eq!((ended.code, ended.err.as_str()), (Some(code), ""), "{arguments:?}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unheard = Process::start(command(&["check", "/nowhere.yaml"]).stderr(writer)).ended(Duration::from_secs(20));
    assert_eq!(unheard.code, Some(1), "errors that nobody reads are errors");
}

/// Three steps of a second, the guards' figures, the aftermath: some ten seconds; more where the machine is busy.
const DEMO_PATIENCE: Duration = Duration::from_secs(150);

#[test]
fn the_demo_tells_its_story_and_ends() {
    let demo = Process::start(&mut command(&["demo", "--exit", "--seconds-per-step", "1"]));
    let ended = demo.ended(DEMO_PATIENCE);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let out = ended.out;
    assert!(!out.contains('\x1b') && !ended.err.contains('\x1b'), "escape codes without a terminal: {out}");
    let place = |text: &str| out.find(text).unwrap_or_else(|| panic!("{text:?} is not in {out}"));
    let story = ["step 1:", "step 2:", "step 3:", "begins to fail", "ROLLED BACK: ", "What the bad version cost"];
    assert!(story.iter().map(|text| place(text)).is_sorted(), "{out}");

    // The cost: `failed answers   N of all M`, `users who saw one   K of L`.
    let figures = |name: &str| -> Vec<u64> {
        let line =
            out.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{name}: {out}"));
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let (answers, users) = (figures("failed answers"), figures("users who saw one"));
    assert!(answers[0] > 0 && answers[0] < answers[1], "{out}");
    assert!(users[0] > 0 && users[0] <= users[1] && users[0] <= answers[0], "{out}");
    assert_eq!(figures("other failures"), [0], "{out}");
    assert_eq!(figures("moved back by the ramp"), [0], "{out}");
}

#[test]
fn the_demo_s_configuration_is_a_sound_file() {
    let ended = pointsman(&["demo", "--print-config"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let file = File::new(&ended.out);
    let ended = pointsman(&["check", file.path()]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
