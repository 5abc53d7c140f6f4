//! A scripted HTTP/2 endpoint: the script gets every request, each as a task of the endpoint's own thread.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use crate::harness::{App, Wire};

pub struct Endpoint2 {
    pub url: String,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
}

/// One request as the script gets it.
pub struct Call {
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
    /// Which connection it came on, from 0.
    pub connection: usize,
    /// Which request it is on its connection, from 0.
    pub number: usize,
    order: mpsc::UnboundedSender<Order>,
}

/// What a script may have done to its connection.
enum Order {
    GoAway,
    /// Without a word; tells when it is done.
    Kill(oneshot::Sender<()>),
}

enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Endpoint2 {
    pub fn start<R: Future<Output = ()> + 'static>(script: impl Fn(Call) -> R + Send + 'static) -> Self {
        Self::with(Builder::new(), script)
    }

    pub fn with<R: Future<Output = ()> + 'static>(
        builder: Builder,
        script: impl Fn(Call) -> R + Send + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        Self::run(url, builder, script, || Listener::Tcp(tokio::net::TcpListener::from_std(listener).unwrap()))
    }

    pub fn at_path<R: Future<Output = ()> + 'static>(path: &Path, script: impl Fn(Call) -> R + Send + 'static) -> Self {
        let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("unix:{}", path.display());
        let listen = || Listener::Unix(tokio::net::UnixListener::from_std(listener).unwrap());
        Self::run(url, Builder::new(), script, listen)
    }

    fn run<R: Future<Output = ()> + 'static>(
        url: String,
        builder: Builder,
        script: impl Fn(Call) -> R + Send + 'static,
        listen: impl FnOnce() -> Listener + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
            runtime.unwrap().block_on(async move {
                let (listener, script) = (listen(), Rc::new(script));
                let accepting = async {
                    loop {
                        let number = |()| count.fetch_add(1, Ordering::SeqCst);
                        match &listener {
                            Listener::Tcp(listener) => {
                                let stream = listener.accept().await.unwrap().0;
                                stream.set_nodelay(true).unwrap();
                                spawn_local(serve(stream, builder.clone(), script.clone(), number(())));
                            }
                            Listener::Unix(listener) => {
                                let stream = listener.accept().await.unwrap().0;
                                spawn_local(serve(stream, builder.clone(), script.clone(), number(())));
                            }
                        }
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        });
        Self { url, connections, stop: Some(stop) }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// An app before it, with more settings of the agent, indented by four.
    pub fn app(&self, settings: &str) -> App {
        App::with_agents(&format!(
            "  bot:\n    protocol: http2\n    versions:\n      1.0.0: {{ endpoints: ['{}'] }}\n    stable: 1.0.0\n{settings}",
            self.url
        ))
    }
}

impl Drop for Endpoint2 {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }
}

async fn serve<R: Future<Output = ()> + 'static>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    builder: Builder,
    script: Rc<impl Fn(Call) -> R + 'static>,
    index: usize,
) {
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let (order, mut orders) = mpsc::unbounded_channel();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                spawn_local(script(Call { request, respond, connection: index, number, order: order.clone() }));
                number += 1;
            }
            order = orders.recv() => match order.unwrap() {
                Order::GoAway => connection.graceful_shutdown(),
                Order::Kill(done) => {
                    drop(connection);
                    done.send(()).unwrap();
                    return;
                }
            }
        }
    }
}

impl Call {
    pub fn path(&self) -> &str {
        self.request.uri().path()
    }

    pub fn go_away(&self) {
        self.order.send(Order::GoAway).ok().unwrap();
    }

    /// What ends its connection, also when the call is over.
    pub fn killer(&self) -> Killer {
        Killer(self.order.clone())
    }

    /// The whole request body, and its trailers.
    pub async fn body(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        let (mut all, body) = (Vec::new(), self.request.body_mut());
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            all.extend_from_slice(&data);
        }
        (all, body.trailers().await.unwrap())
    }

    pub fn head(&mut self, response: Response<()>) -> SendStream<Bytes> {
        self.respond.send_response(response, false).unwrap()
    }

    pub async fn answer(mut self, text: impl Into<Bytes>) {
        let mut stream = self.head(Response::new(()));
        send(&mut stream, text.into()).await.unwrap();
        stream.send_data(Bytes::new(), true).unwrap();
    }

    /// Waits for the proxy's word that it has given up.
    pub async fn cancelled(&mut self) -> Reason {
        poll_fn(|cx| self.respond.poll_reset(cx)).await.unwrap()
    }
}

pub struct Killer(mpsc::UnboundedSender<Order>);

impl Killer {
    /// Ends the connection, with all that is on it.
    pub async fn kill(self) {
        let (done, killed) = oneshot::channel();
        self.0.send(Order::Kill(done)).ok().unwrap();
        killed.await.unwrap();
    }
}

/// Sends with backpressure.
pub async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            poll_fn(|cx| stream.poll_capacity(cx)).await.ok_or(Reason::CANCEL)??;
        }
        stream.send_data(data.split_to(stream.capacity().min(data.len())), false)?;
    }
    Ok(())
}

pub fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

pub fn response(pairs: &[(&'static str, &'static str)]) -> Response<()> {
    let mut response = Response::new(());
    *response.headers_mut() = fields(pairs);
    response
}

/// A body of this many bytes in which no stretch is like another.
pub fn pattern(bytes: u32) -> Vec<u8> {
    (0..bytes).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// POST with a body of known length.
pub fn post(client: &mut Wire, path: &str, fields: &str, body: &[u8]) {
    let head = format!("POST {path} HTTP/1.1\r\nhost: agent.test\r\ncontent-length: {}\r\n{fields}\r\n", body.len());
    client.write([head.as_bytes(), body].concat()).unwrap();
}
