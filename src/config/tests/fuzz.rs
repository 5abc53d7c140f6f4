//! Whatever the file says: a configuration that can be put in effect, or errors with their places.

use super::*;
use crate::control::service::Control;
use crate::fuzz::{Target, inputs, run};
use crate::telemetry::stats::StatsRegistry;

#[test]
fn config_fuzz() {
    let words = [
        "\n",
        "\n  ",
        ": ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "!!map",
        "|",
        ">",
        "'",
        "\"",
        "#",
        "---\n",
        "<<: ",
        "\t",
        "${TOKEN}",
        "${X:-",
        "0.0001%",
        "101%",
        "-1",
        "1e9",
        "99999999999999999999d",
        "10m",
        "64KiB",
        "null",
        "~",
        "true",
        "0x10",
        "1.4.2",
        "\u{feff}",
        "deployment:",
        "split:",
        "endpoints:",
        "stable:",
        "[http://127.0.0.1:1]",
        "unix:/x",
        "header:x",
        "json:/a",
    ];
    let seeds = [inputs("config"), inputs("tests/golden/check")].concat();
    let seeds = seeds.into_iter().filter(|seed| seed.len() < 4 << 10).collect();
    run(Target { name: "config", words: &words, seeds, cases: 400 }, |input| {
        let text = String::from_utf8_lossy(input);
        match Config::parse("t.yaml", &text, &env) {
            Ok(config) => {
                let started = Control::start(config.intent(), Arc::new(StatsRegistry::new(1)));
                assert!(started.is_ok(), "it was checked, and cannot be put in effect: {:?}", started.err());
            }
            Err(errors) => {
                assert!(errors.iter().next().is_some());
                let lines = text.split(['\n', '\r']).count() as u32;
                for error in errors.iter() {
                    let place = error.place.expect("what was read has places");
                    assert!((1..=lines + 1).contains(&place.line) && place.column >= 1, "{error} of {lines} lines");
                }
            }
        }
    });
}
