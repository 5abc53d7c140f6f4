//! A client of HTTP/2, and endpoints to try it with.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::harness::{App, Endpoint, PATIENCE, ok};

/// Runs a client's part to its end, which must come.
pub fn client<T>(part: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bounded = async { tokio::time::timeout(PATIENCE, part).await };
    runtime.block_on(bounded).expect("the client waits for what does not come")
}

/// A connection that is driven in the background, and told of when it ends.
pub struct Http2 {
    pub send: SendRequest<Bytes>,
    pub ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &Builder::new()).await
    }

    pub async fn connect_with(address: SocketAddr, builder: &Builder) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (send, connection) = builder.handshake(stream).await.unwrap();
        Self { send, ended: tokio::spawn(connection) }
    }

    /// Sends the head of a request, which may be all of it.
    pub async fn begin(&mut self, request: Request<()>, whole: bool) -> (ResponseFuture, SendStream<Bytes>) {
        std::future::poll_fn(|cx| self.send.poll_ready(cx)).await.unwrap();
        self.send.send_request(request, whole).unwrap()
    }

    /// Sends a request without a body.
    pub async fn ask(&mut self, request: Request<()>) -> Result<Answer, h2::Error> {
        let (response, _) = self.begin(request, true).await;
        Answer::read(response.await?).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(get(path)).await.unwrap()
    }
}

/// A response and all that came with it.
pub struct Answer {
    pub head: Response<()>,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub async fn read(response: Response<RecvStream>) -> Result<Self, h2::Error> {
        let (head, mut stream) = response.into_parts();
        let mut body = Vec::new();
        while let Some(data) = stream.data().await {
            let data = data?;
            stream.flow_control().release_capacity(data.len())?;
            body.extend_from_slice(&data);
        }
        Ok(Self { head: Response::from_parts(head, ()), body, trailers: stream.trailers().await? })
    }

    pub fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers().get(name).map(|value| value.to_str().unwrap())
    }

    pub fn error_code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        json["error"]["code"].as_str().unwrap().to_owned()
    }
}

pub fn request(method: Method, path: &str) -> Request<()> {
    Request::builder().method(method).uri(format!("http://agent.test{path}")).body(()).unwrap()
}

pub fn get(path: &str) -> Request<()> {
    request(Method::GET, path)
}

pub fn post(path: &str) -> Request<()> {
    request(Method::POST, path)
}

/// An app with these `limits`.
pub fn limited(endpoint: &Endpoint, limits: &str) -> App {
    App::with_yaml(&format!(
        "limits: {{ {limits} }}\nagents:\n  bot: {{ versions: {{ 1.0.0: {{ endpoints: ['{}'] }} }}, stable: 1.0.0 }}\n",
        endpoint.url()
    ))
}

/// Answers when a byte is sent to it, for paths that begin with `/held`; others at once.
pub fn holding() -> (Endpoint, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let endpoint = Endpoint::answering(move |request| {
        if request.start.contains(" /held") {
            let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
        }
        ok(&request.start)
    });
    (endpoint, go)
}

/// Tells on the channel when the request is there, and when its client has gone.
pub fn watching() -> (Endpoint, UnboundedReceiver<&'static str>) {
    let (told, seen) = unbounded_channel();
    let endpoint = Endpoint::start(move |mut wire| {
        while let Some(request) = wire.head() {
            if request.start.starts_with("GET /plain") {
                wire.write(ok("plain")).unwrap();
                continue;
            }
            told.send("working").unwrap();
            if request.start.contains("/stream") {
                wire.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").unwrap();
            }
            let mut rest = Vec::new();
            let _ = wire.read_to_end(&mut rest);
            told.send(if rest.ends_with(b"0\r\n\r\n") { "whole" } else { "gone" }).unwrap();
        }
    });
    (endpoint, seen)
}
