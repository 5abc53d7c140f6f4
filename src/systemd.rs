//! What a service manager of systemd's kind gives and wants to know: sockets that listen already (sd_listen_fds(3)),
//! and word of this process's state (sd_notify(3)). Without one, both are nothing.

use std::io;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use listenfd::ListenFd;

/// Says `state`, such as `READY=1`. Best effort: a manager that does not listen must not hold anything up.
pub fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let said = address(path.as_encoded_bytes()).and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    });
    if let Err(error) = said {
        tracing::warn!(%error, state, "the service manager could not be told");
    }
}

/// A leading `@` stands for a socket without a file.
fn address(path: &[u8]) -> io::Result<SocketAddr> {
    match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(String::from_utf8_lossy(path).as_ref()),
    }
}

/// The sockets that were opened for this process, with their names. To be called once, before there are threads:
/// what it read leaves the environment, so that no child takes it for its own.
pub fn sockets() -> io::Result<Vec<(String, TcpListener)>> {
    let own = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if !own {
        return Ok(Vec::new());
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..given.len() {
        let name = names.next().unwrap_or_default().to_owned();
        let socket = given.take_tcp_listener(index).map_err(|error| {
            io::Error::new(error.kind(), format!("socket {index} of the service manager is no TCP listener: {error}"))
        })?;
        sockets.extend(socket.map(|socket| (name, socket)));
    }
    Ok(sockets)
}
