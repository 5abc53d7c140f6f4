//! Each file of tests/golden/check has errors; beside it stands what `check` must say of it.

use super::*;

#[test]
fn every_bad_file_gets_its_errors() {
    let files = files_in("tests/golden/check", "yaml");
    assert!(files.len() >= 25, "only {} bad files", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let errors = Config::parse(&name, &text, &env).expect_err(&name);
        assert!(errors.iter().all(|error| error.place.is_some()), "{errors}");
        compare_golden(&path.with_extension("txt"), &format!("{errors}\n"));
    }
}

#[test]
fn an_unreadable_file_says_why_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("none.yaml");
    let message = Config::load(&path).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}: the file cannot be read: ", path.display())), "{message}");
    assert!(message.contains("check the path"), "{message}");
    std::fs::write(&path, b"agents:\n  b: \xff\n").unwrap();
    let message = Config::load(&path).unwrap_err().to_string();
    assert!(message.contains("line 2 is not UTF-8"), "{message}");
}

#[test]
fn a_hundred_errors_are_enough() {
    let listeners: String = (0..150).map(|_| "  - { address: nowhere }\n").collect();
    let text = errors(&format!("listeners:\n{listeners}agents: {{}}\n"));
    assert_eq!(text.lines().count(), MAX_ERRORS + 1, "{text}");
    assert!(text.ends_with("the first 100 are shown"), "{text}");
}

#[test]
fn a_secret_is_in_no_error_and_no_debug_text() {
    let config = parse("admin: { address: 0.0.0.0:9901, token: \"${TOKEN}\" }\nagents: {}");
    assert!(!format!("{config:?}").contains("a-secret"));
    assert!(!errors("admin: { token: \"${TOKEN} x\" }\nagents: {}").contains("a-secret"));
}

proptest::proptest! {
    /// Whatever is in the file: a configuration or errors, never a panic.
    #[test]
    fn no_text_is_too_strange(cut in 0usize..4000, at in 0usize..4000, with in "[-:{}\\[\\]&*!|>'\"%#,?@`\\t\\n a0$]{0,4}") {
        let text = include_str!("../../../config/canary.yaml");
        let mut text: Vec<char> = text.chars().collect();
        let at = at % (text.len() + 1);
        text.splice(at..at, with.chars());
        text.truncate(text.len().saturating_sub(cut % 64));
        let _ = Config::parse("t.yaml", &text.into_iter().collect::<String>(), &env);
    }

    #[test]
    fn no_line_noise_either(text in "[-:{}\\[\\]&*!|>'\"%#,?@`\\t\\n a-c0$]{0,60}") {
        let _ = Config::parse("t.yaml", &text, &env);
    }
}
