//! Listening sockets that this process did not bind itself: another one has handed them on, or a service manager has
//! opened them before the start.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// The name of the admin side's socket.
pub const ADMIN: &str = "admin";

/// Sockets that wait for a listener of the file.
#[derive(Default)]
pub struct Sockets(Vec<Given>);

struct Given {
    /// [`ADMIN`], the index of a listener, or nothing that says anything.
    name: String,
    /// What it was bound to; as the file said, where that is known.
    address: SocketAddr,
    socket: OwnedFd,
}

impl Sockets {
    pub fn add(&mut self, name: impl Into<String>, address: SocketAddr, socket: OwnedFd) {
        self.0.push(Given { name: name.into(), address, socket });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take_admin(&mut self, address: SocketAddr) -> Option<OwnedFd> {
        self.take(|given| given.name == ADMIN || is_same(given.address, address))
    }

    pub(super) fn take_listener(&mut self, index: usize, address: SocketAddr) -> Option<OwnedFd> {
        let index = index.to_string();
        self.take(|given| given.name != ADMIN && (given.name == index || is_same(given.address, address)))
    }

    fn take(&mut self, wanted: impl Fn(&Given) -> bool) -> Option<OwnedFd> {
        let place = self.0.iter().position(wanted)?;
        Some(self.0.remove(place).socket)
    }

    /// What is left is closed: nothing in the file is for it.
    pub(super) fn warn_of_rest(self) {
        for Given { name, address, .. } in self.0 {
            tracing::warn!(name, %address, "a socket that was handed over is not used: no listener has this address");
        }
    }
}

/// A wildcard is one, whichever family it is written in: a manager that opens a port opens it for both.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let both_any = one.ip().is_unspecified() && other.ip().is_unspecified();
    one == other || (both_any && one.port() == other.port())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn given(entries: &[(&str, &str)]) -> Sockets {
        let mut sockets = Sockets::default();
        for (name, address) in entries {
            let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
            sockets.add(*name, address.parse().expect("an address"), socket.into());
        }
        sockets
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_socket_is_found_by_its_address_or_its_name_and_once() {
        let entries = [("", "127.0.0.1:80"), ("admin", "127.0.0.1:0"), ("1", "10.0.0.1:99"), ("", "[::]:8080")];
        let mut sockets = given(&entries);
        assert!(sockets.take_listener(0, at("127.0.0.1:0")).is_none(), "that is the admin side's");
        assert!(sockets.take_listener(0, at("127.0.0.1:80")).is_some());
        assert!(sockets.take_listener(0, at("127.0.0.1:80")).is_none());
        assert!(sockets.take_listener(1, at("127.0.0.1:81")).is_some());
        assert!(sockets.take_listener(2, at("127.0.0.1:8080")).is_none());
        assert!(sockets.take_listener(2, at("0.0.0.0:8080")).is_some());
        assert!(sockets.take_admin(at("127.0.0.1:9901")).is_some());
        assert!(sockets.is_empty());
    }
}
