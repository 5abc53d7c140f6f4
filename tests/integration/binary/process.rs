//! One process of the binary: what it wrote, how it ended, and that it never outlives its test.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{PATIENCE, PORTS, Wire, admin, eventually};

/// The binary with these arguments, in the package's directory, and with nothing of our own environment that
/// would change what it does.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env_remove("POINTSMAN_CONFIG").env_remove("POINTSMAN_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end.
pub fn pointsman(arguments: &[&str]) -> Ended {
    Process::start(&mut command(arguments)).ended(PATIENCE)
}

/// The same, with `input` on its standard input.
pub fn pointsman_reading(arguments: &[&str], input: &str) -> Ended {
    let mut process = Process::start(command(arguments).stdin(Stdio::piped()));
    let mut stdin = process.child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    process.ended(PATIENCE)
}

/// A running process; killed when dropped, so also when its test panics.
pub struct Process {
    child: Child,
    out: Lines,
    err: Lines,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (out, err) = (Lines::of(child.stdout.take()), Lines::of(child.stderr.take()));
        Self { child, out, err }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn out(&self) -> String {
        self.out.text()
    }

    pub fn err(&self) -> String {
        self.err.text()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill`: there is one wherever there is a shell.
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status().unwrap();
        assert!(sent.success(), "SIG{name} could not be sent");
    }

    /// Waits for the end; fails the test if it does not come within `patience`.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end:\n{}\n{}", self.out(), self.err());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the end, and for everything that it wrote.
    pub fn ended(mut self, patience: Duration) -> Ended {
        let status = self.wait(patience);
        assert_eq!(status.signal(), None, "a signal ended it:\n{}\n{}", self.out(), self.err());
        let ended = Ended { code: status.code(), out: self.out.finish(), err: self.err.finish() };
        assert!(!ended.err.contains("panicked"), "{ended:?}");
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process wrote so far, read by a thread that ends with the pipe.
struct Lines {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(pipe: Option<impl std::io::Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let written = text.clone();
        let read = move |pipe| {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                written.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        };
        Self { text, reader: pipe.map(|pipe| std::thread::spawn(move || read(pipe))) }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn finish(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.text()
    }
}

/// A configuration file in a folder of its own.
pub struct File {
    folder: tempfile::TempDir,
    pub path: PathBuf,
}

impl File {
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pointsman.yaml");
        std::fs::write(&path, text).unwrap();
        Self { folder, path }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

/// `pointsman run`, serving.
pub struct Proxy {
    pub process: Process,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    /// Its file, unless the test keeps that.
    _file: Option<File>,
}

impl Proxy {
    /// `yaml` is the file but for listeners, admin and workers.
    pub fn with_yaml(yaml: &str) -> Self {
        let file = File::new(&format!("{PORTS}{yaml}"));
        let mut proxy = Self::with_file(&file.path);
        proxy._file = Some(file);
        proxy
    }

    pub fn with_file(path: &Path) -> Self {
        Self::of(&mut command(&["run", "--log-format", "json", "--config", path.to_str().unwrap()]))
    }

    /// Waits until its log has said where it listens.
    pub fn of(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        let address = |process: &Process, message: &str| -> Option<SocketAddr> {
            let event = logged(process, message).into_iter().next()?;
            Some(event["address"].as_str().unwrap().parse().unwrap())
        };
        let mut found = None;
        eventually("it listens", || {
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", process.err());
            found = address(&process, "listening").zip(address(&process, "admin side listening"));
            found.is_some()
        });
        let (proxy, admin) = found.unwrap();
        Self { process, proxy, admin, _file: None }
    }

    pub fn client(&self) -> Wire {
        Wire::connect(self.proxy)
    }

    pub fn admin_get(&self, path: &str) -> crate::harness::Message {
        admin(self.admin, "GET", path, "")
    }

    pub fn metric(&self, wanted: &str) -> f64 {
        crate::harness::metric(self.admin, wanted)
    }

    /// SIGTERM, and a sound end.
    pub fn stop(self) -> Ended {
        self.process.signal("TERM");
        let ended = self.process.ended(PATIENCE);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }
}

/// The events with this message in the log, each of whose lines must be one JSON object.
pub fn logged(process: &Process, message: &str) -> Vec<Value> {
    let text = process.err();
    let event = |line: &str| -> Value { serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")) };
    text.lines().map(event).filter(|event| event["message"] == message).collect()
}
