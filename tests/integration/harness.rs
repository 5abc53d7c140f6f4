//! The real app in this process, raw clients before it and scripted endpoints behind it.
//!
//! Everything is blocking and bounded: each read gives up after [`PATIENCE`], each server ends with
//! its handle, each socket is on loopback and port 0.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pointsman::app::{self, Running};
use pointsman::config::Config;

/// Longer than anything takes on a busy machine; a wait that reaches it fails the test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One HTTP/1.1 message as it was on the wire, body de-chunked.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Request line or status line.
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("no status: {self:?}"))
    }
    /// All values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = |(n, _): &&(String, String)| n.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|(_, v)| v.as_str()).collect()
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
    pub fn version(&self) -> &str {
        self.header("x-pointsman-version").unwrap_or("")
    }
}

/// A raw connection, either end.
pub struct Wire {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    pub fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// The same connection, to write from another thread.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// One line without its end; `None` at the end of the stream.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("reading a line: {e}"),
        }
    }

    pub fn head(&mut self) -> Option<Message> {
        let start = self.line()?;
        let mut message = Message { start, ..Message::default() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(message);
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("bad field: {line:?}"));
            message.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// A whole message; `None` if the stream ends first.
    pub fn message(&mut self) -> Option<Message> {
        let mut message = self.head()?;
        if message.header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            while let Some(chunk) = self.chunk()? {
                message.body.extend(chunk);
            }
        } else if let Some(length) = message.header("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut body).ok()?;
            message.body = body;
        } else if message.start.starts_with("HTTP/")
            && ![204, 304].contains(&message.status())
            && message.status() >= 200
        {
            self.reader.read_to_end(&mut message.body).ok()?;
        }
        Some(message)
    }

    /// One chunk of data; `None` after the last, whose trailers are left to be read line by line.
    pub fn chunk_data(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(self.line()?.split(';').next().unwrap().trim(), 16).unwrap();
        let mut chunk = vec![0; size];
        self.reader.read_exact(&mut chunk).ok()?;
        (size > 0).then(|| self.line().map(|_| chunk))?
    }

    /// All that comes until the stream ends.
    pub fn read_to_end(&mut self, rest: &mut Vec<u8>) -> std::io::Result<usize> {
        self.reader.read_to_end(rest)
    }

    /// Reads so many bytes, or to the end, and forgets them.
    pub fn skip(&mut self, bytes: u64) {
        let _ = std::io::copy(&mut Read::take(&mut self.reader, bytes), &mut std::io::sink());
    }

    /// One chunk; `Some(None)` after the last, `None` if the stream ends first.
    pub fn chunk(&mut self) -> Option<Option<Vec<u8>>> {
        let size = usize::from_str_radix(self.line()?.split(';').next().unwrap().trim(), 16).unwrap();
        let mut chunk = vec![0; size];
        self.reader.read_exact(&mut chunk).ok()?;
        self.line()?;
        Some((size > 0).then_some(chunk))
    }

    /// Whether the other end closes without another byte.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.reader.read(&mut byte) {
            Ok(n) => n == 0,
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }

    /// Sends a request with a `Host` and reads the answer.
    pub fn ask(&mut self, request: &str) -> Message {
        self.write(request).unwrap();
        self.message().unwrap_or_else(|| panic!("no answer to {request:?}"))
    }

    pub fn get(&mut self, path: &str, user: &str) -> Message {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: agent.test\r\nx-user-id: {user}\r\n\r\n"))
    }
}

/// What is no message: the bytes of a tunnel.
impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.reader.read(buffer)
    }
}

/// A scripted endpoint: the script gets every connection, each on a thread of its own.
pub struct Endpoint {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Endpoint {
    pub fn start(script: impl Fn(Wire) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counter, script) = (stop.clone(), connections.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                counter.fetch_add(1, Ordering::SeqCst);
                let script = script.clone();
                std::thread::spawn(move || script(Wire::new(stream)));
            }
        });
        Self { address, connections, stop }
    }

    /// Answers each request with what `answer` makes of it, keep-alive.
    pub fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        Self::start(move |mut wire| {
            while let Some(request) = wire.message() {
                if wire.write(answer(&request)).is_err() {
                    return;
                }
            }
        })
    }

    /// 200 with `text`.
    pub fn saying(text: &'static str) -> Self {
        Self::answering(move |_| ok(text))
    }

    /// Asks for the four bytes of a body that waits for that and answers with them; `/refuse`: does not.
    pub fn asking() -> Self {
        Self::start(|mut wire| {
            while let Some(head) = wire.head() {
                assert_eq!(head.header("expect"), Some("100-continue"));
                if head.start.contains("/refuse") {
                    wire.write("HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n").unwrap();
                    continue;
                }
                wire.write("HTTP/1.1 100 Continue\r\n\r\n").unwrap();
                let mut body = [0; 4];
                wire.stream.read_exact(&mut body).unwrap();
                wire.write(ok(std::str::from_utf8(&body).unwrap())).unwrap();
            }
        })
    }

    /// Echoes what it got: start line, fields and body, as the text of its answer.
    pub fn echo() -> Self {
        Self::answering(|request| {
            let mut text = format!("{}\n", request.start);
            for (name, value) in &request.headers {
                text += &format!("{name}: {value}\n");
            }
            text += &format!("\n{}", String::from_utf8_lossy(&request.body));
            ok(&text)
        })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// An endpoint that says "served", and of its health at `/healthz` what it is told to.
pub struct Checked {
    pub endpoint: Endpoint,
    pub healthy: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

impl Checked {
    pub fn new(healthy: bool) -> Self {
        let (healthy, served) = (Arc::new(AtomicBool::new(healthy)), Arc::new(AtomicUsize::new(0)));
        let (switch, counter) = (healthy.clone(), served.clone());
        let endpoint = Endpoint::answering(move |request| {
            if request.start.starts_with("GET /healthz ") {
                return if switch.load(Ordering::SeqCst) { ok("ready") } else { status(503) };
            }
            counter.fetch_add(1, Ordering::SeqCst);
            ok("served")
        });
        Self { endpoint, healthy, served }
    }

    /// How many requests it has had that were no checks.
    pub fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

pub fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}

pub fn status(code: u16) -> String {
    format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n")
}

/// An address that nobody listens on.
pub fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The top of every test's file.
pub const PORTS: &str =
    "listeners: [{ address: '127.0.0.1:0' }]\nadmin: { address: '127.0.0.1:0' }\nworkers: 2\nstate_dir: none\n";

/// The app under test.
pub struct App {
    pub running: Option<Running>,
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
}

impl App {
    /// Starts with `agents` as the `agents:` part of the file, indented by two.
    pub fn with_agents(agents: &str) -> Self {
        Self::with_yaml(&format!("agents:\n{agents}"))
    }

    /// One agent `bot` that every request goes to, its only version at `endpoint`.
    pub fn before(endpoint: &Endpoint) -> Self {
        Self::before_with(endpoint, "")
    }

    /// The same, with more settings of the agent, indented by four.
    pub fn before_with(endpoint: &Endpoint, settings: &str) -> Self {
        let url = endpoint.url();
        Self::with_agents(&format!(
            "  bot:\n    versions:\n      1.0.0: {{ endpoints: ['{url}'] }}\n    stable: 1.0.0\n{settings}"
        ))
    }

    /// `yaml` is the file but for listeners, admin and workers.
    pub fn with_yaml(yaml: &str) -> Self {
        let config = Config::parse("test.yaml", &format!("{PORTS}{yaml}"), &|_| None).unwrap_or_else(|e| panic!("{e}"));
        Self::of(app::start(config, None).unwrap())
    }

    /// Starts with the file at `path`, and follows its changes.
    pub fn watching(path: &Path) -> Self {
        let config = Config::load(path).unwrap_or_else(|e| panic!("{e}"));
        Self::of(app::start(config, Some(path.to_owned())).unwrap())
    }

    pub fn of(running: Running) -> Self {
        Self { proxy: running.listeners[0], admin: running.admin, running: Some(running) }
    }

    pub fn client(&self) -> Wire {
        Wire::connect(self.proxy)
    }

    /// GET on the admin side.
    pub fn admin_get(&self, path: &str) -> Message {
        admin(self.admin, "GET", path, "")
    }

    pub fn admin_post(&self, path: &str, json: &str) -> Message {
        admin(self.admin, "POST", path, json)
    }

    /// As [`metric`], of this app.
    pub fn metric(&self, wanted: &str) -> f64 {
        metric(self.admin, wanted)
    }

    /// Requests that ended as `outcome`, over all versions and classes.
    pub fn outcomes(&self, outcome: &str) -> f64 {
        self.metric(&format!("pointsman_requests_total{{outcome=\"{outcome}\"}}"))
    }
}

impl Drop for App {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

pub fn admin(address: SocketAddr, method: &str, path: &str, json: &str) -> Message {
    let mut wire = Wire::connect(address);
    let length = json.len();
    wire.ask(&format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{json}"
    ))
}

/// The sum of the metric's series that have all these labels, such as `name{agent="bot"}`.
pub fn metric(address: SocketAddr, wanted: &str) -> f64 {
    let (name, labels) = wanted.split_once('{').unwrap_or((wanted, ""));
    let labels: Vec<_> = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
    let text = admin(address, "GET", "/metrics", "");
    let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let lines = text.text().lines().filter(of_name);
    let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Waits until `condition` holds; fails the test, with `what`, after [`PATIENCE`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
