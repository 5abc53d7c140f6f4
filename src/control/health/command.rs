//! A command as a check: no shell, an environment of its own, and nothing left of it afterwards.
//!
//! It leads a process group of its own, which is killed when the command ends, when its time is over and when
//! the check is dropped: what it started in the background does not outlive it. Only a process that left the
//! group on purpose (`setsid`) escapes. Of the environment it gets [`PASSED_ON`], so no secret of ours.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// Of our environment, what a program may need to find its way.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// How much of what it writes is shown; the rest is read and forgotten, so that it never blocks.
const OUTPUT_LIMIT: usize = 1024;

/// How long output that is under way may take to arrive, once all of the group are dead.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Runs it; the error says how it ended and what it wrote.
pub async fn run(argv: &[String], timeout: Duration) -> Result<(), String> {
    let Some(program) = argv.first() else { return Err("there is no program".into()) };
    let (mut group, mut pipe) = Group::start(argv).map_err(|error| format!("cannot start {program}: {error}"))?;
    let mut output = Output::default();
    let ended = tokio::time::timeout(timeout, async {
        tokio::select! {
            status = group.child.wait() => status,
            never = output.read(&mut pipe) => never,
        }
    });
    let ended = ended.await;
    group.kill();
    let _ = tokio::time::timeout(LAST_WORDS, output.read_to_end(&mut pipe)).await;
    match ended {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{}{output}", how_it_ended(status))),
        Ok(Err(error)) => Err(format!("cannot wait for {program}: {error}")),
        Err(_) => {
            // It is dead already: this takes its entry out of the process table.
            let _ = group.child.wait().await;
            Err(format!("not done after {}{output}", humantime::format_duration(timeout)))
        }
    }
}

fn how_it_ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A command and whatever it starts.
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn start(argv: &[String]) -> io::Result<(Self, pipe::Receiver)> {
        let (reader, writer) = io::pipe()?;
        let passed_on = PASSED_ON.iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
        let child = Command::new(&argv[0])
            .args(&argv[1..])
            .env_clear()
            .envs(passed_on)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        Ok((Self { child, leader }, pipe::Receiver::from_owned_fd(reader.into())?))
    }

    /// Once: after that the number may be another's. While one of the group lives, the kernel gives it to nobody.
    fn kill(&mut self) {
        if let Some(leader) = self.leader.take() {
            // The only error that can come is that nobody is left.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The first of what it wrote, on standard output and standard error alike.
#[derive(Default)]
struct Output {
    kept: Vec<u8>,
    more: bool,
}

impl Output {
    async fn read_to_end(&mut self, pipe: &mut pipe::Receiver) {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            let kept = read.min(OUTPUT_LIMIT - self.kept.len());
            self.kept.extend_from_slice(&buffer[..kept]);
            self.more |= kept < read;
        }
    }

    /// Never ends: a command may go on after it has closed its output.
    async fn read<T>(&mut self, pipe: &mut pipe::Receiver) -> T {
        self.read_to_end(pipe).await;
        std::future::pending().await
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy(&self.kept);
        let text = text.trim();
        if text.is_empty() {
            return f.write_str(", without output");
        }
        write!(f, ": {}{}", super::one_line(text), if self.more { " …" } else { "" })
    }
}
