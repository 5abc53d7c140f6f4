//! TLS before a scripted endpoint: takes it off, and passes the bytes on, both ways.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Issues certificates, and has a directory for them; its own is `ca.pem` there.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// A certificate and its key.
pub struct Pair {
    cert: rcgen::Certificate,
    key: KeyPair,
}

impl Pair {
    pub fn der(&self) -> CertificateDer<'static> {
        self.cert.der().clone()
    }
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        // No two have the same name: one that has would be asked for a signature that it never made.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::SeqCst));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |_| {})
    }

    pub fn issue_expired(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pair { cert: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// Writes `<name>.pem` and `<name>.key`.
    pub fn write(&self, pair: &Pair, name: &str) {
        std::fs::write(self.path(&format!("{name}.key")), pair.key.serialize_pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), pair.cert.pem()).unwrap();
    }

    pub fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        Arc::new(roots)
    }
}

/// A server's side of TLS: its certificate, its protocols, and whose clients it takes, if not everyone.
pub fn server(pair: &Pair, protocols: &[&str], clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authority.roots(), provider).build().unwrap(),
        ),
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::try_from(pair.key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(vec![pair.der()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// What one handshake came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    pub resumed: bool,
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub client: Option<CertificateDer<'static>>,
}

/// What a front may be told to do with all its connections.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// New keys: bytes that carry nothing.
    Rekey,
    /// TLS's own good-bye, and the end.
    GoodBye,
    /// The end without a word.
    Cut,
}

pub struct Front {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    orders: broadcast::Sender<Order>,
    _stop: oneshot::Sender<()>,
}

impl Front {
    /// Before what listens at `inner`.
    pub fn before(inner: SocketAddr, config: ServerConfig) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, orders) = (Arc::new(Mutex::new(Vec::new())), broadcast::channel(16).0);
        let (stop, stopped) = oneshot::channel::<()>();
        let (noted, told) = (seen.clone(), orders.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let acceptor = TlsAcceptor::from(Arc::new(config));
                let accepting = async {
                    loop {
                        let (socket, _) = listener.accept().await.unwrap();
                        socket.set_nodelay(true).unwrap();
                        tokio::spawn(serve(socket, inner, acceptor.clone(), noted.clone(), told.subscribe()));
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, seen, orders, _stop: stop }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Handshakes that succeeded, in their order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }
}

async fn serve(
    socket: TcpStream,
    inner: SocketAddr,
    acceptor: TlsAcceptor,
    seen: Arc<Mutex<Vec<Seen>>>,
    orders: broadcast::Receiver<Order>,
) {
    let Ok(outer) = acceptor.accept(socket).await else { return };
    let session = outer.get_ref().1;
    seen.lock().unwrap().push(Seen {
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        name: session.server_name().map(str::to_owned),
        protocol: session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        client: session.peer_certificates().and_then(|chain| chain.first()).map(|cert| cert.clone().into_owned()),
    });
    let Ok(inner) = TcpStream::connect(inner).await else { return };
    inner.set_nodelay(true).unwrap();
    // What breaks one side breaks the other: both are dropped.
    let _ = relay(outer, inner, orders).await;
}

async fn relay(
    mut outer: TlsStream<TcpStream>,
    mut inner: TcpStream,
    mut orders: broadcast::Receiver<Order>,
) -> std::io::Result<()> {
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut up_open, mut down_open) = (true, true);
    while up_open || down_open {
        tokio::select! {
            read = outer.read(&mut up), if up_open => match read? {
                0 => {
                    up_open = false;
                    inner.shutdown().await?;
                }
                count => inner.write_all(&up[..count]).await?,
            },
            read = inner.read(&mut down), if down_open => match read? {
                0 => {
                    down_open = false;
                    outer.shutdown().await?;
                }
                count => {
                    outer.write_all(&down[..count]).await?;
                    outer.flush().await?;
                }
            },
            order = orders.recv() => match order {
                Ok(Order::Rekey) => {
                    outer.get_mut().1.refresh_traffic_keys().unwrap();
                    outer.flush().await?;
                }
                Ok(Order::GoodBye) => return outer.shutdown().await,
                Ok(Order::Cut) | Err(_) => return Ok(()),
            },
        }
    }
    Ok(())
}
