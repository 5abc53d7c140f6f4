//! Each shell reads the script that is made for it. A shell that is not installed is not asked.

use std::io::Write;
use std::process::{Command, Stdio};

use super::process::{File, pointsman};

fn script(shell: &str) -> String {
    let ended = pointsman(&["completions", shell]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{shell}");
    assert!(ended.out.contains("emergency-rollback"), "{shell}: the commands below ctl are missing");
    ended.out
}

/// What the shell says of the script, followed by `then`; `None` where there is no such shell.
fn run(shell: &str, arguments: &[&str], then: &str) -> Option<String> {
    let file = File::new("");
    let path = file.at("script");
    std::fs::write(&path, format!("{}\n{then}\n", script(shell))).unwrap();
    let mut command = Command::new(shell);
    command.args(arguments).arg(&path).stdin(Stdio::null()).env_remove("BASH_ENV").env("HOME", path.parent().unwrap());
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let _ = writeln!(std::io::stderr().lock(), "{shell} is not installed: its completions are not tested");
            return None;
        }
        Err(error) => panic!("{shell}: {error}"),
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{shell}: {complaint}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn bash_completes_commands() {
    let then =
        "COMP_WORDS=(pointsman ctl rollb); COMP_CWORD=2\n_pointsman pointsman rollb ctl\necho \"${COMPREPLY[*]}\"";
    if let Some(out) = run("bash", &["--norc", "--noprofile"], then) {
        assert_eq!(out, "rollback rollback-points\n");
    }
}

#[test]
fn zsh_takes_the_script() {
    // Outside of a completion there is nothing to complete: the functions must be there, whole.
    let then = "(( $+functions[_pointsman] )) && print there";
    let setup = "autoload -Uz compinit && compinit -u && source $0";
    if let Some(out) = run("zsh", &["-f", "-c", setup], then) {
        assert_eq!(out, "there\n");
    }
}

#[test]
fn fish_completes_commands() {
    let then = "complete --do-complete 'pointsman ctl rollb'";
    if let Some(out) = run("fish", &["--no-config"], then) {
        let names: Vec<_> = out.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(names, ["rollback", "rollback-points"], "{out}");
    }
}

#[test]
fn another_shell_is_refused() {
    let ended = pointsman(&["completions", "cmd.exe"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("bash, zsh, fish"), "{ended:?}");
}
