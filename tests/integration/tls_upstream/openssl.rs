//! A peer that is not of our library: OpenSSL's own server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::front::Authority;
use super::{NAME, handshakes, tls};
use crate::harness::App;

/// `openssl s_server -www`, killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// `None`: there is no such program, and nobody insists on it.
    fn start(authority: &Authority, options: &[&str]) -> Option<Self> {
        authority.write(&authority.issue(&[NAME]), "server");
        let child = Command::new("openssl")
            .args(["s_server", "-www", "-accept", "127.0.0.1:0"])
            .args(["-cert", &authority.path("server.pem"), "-key", &authority.path("server.key")])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) if std::env::var_os("POINTSMAN_TEST_TOOLS").is_none() => {
                eprintln!("SKIPPED: openssl cannot be run ({error}); tests/run installs it");
                return None;
            }
            Err(error) => panic!("openssl cannot be run: {error}"),
        };
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = said.map_while(Result::ok).find_map(|line| Some(line.strip_prefix("ACCEPT ")?.to_owned()));
        Some(Self { child, address: address.expect("openssl says where it listens") })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn openssl_is_spoken_with_in_either_version_of_tls() {
    for (option, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let authority = Authority::new();
        let Some(server) = Server::start(&authority, &[option, "-alpn", "http/1.1"]) else { return };
        let app = App::with_agents(&format!(
            "  bot:\n    versions: {{ 1.0.0: {{ endpoints: ['https://{}'] }} }}\n    stable: 1.0.0\n{}",
            server.address,
            tls(&authority, "")
        ));
        let mut client = app.client();
        for _ in 0..4 {
            // It answers in HTTP/1.0, and closes: a new connection each time, which goes on from the session before.
            let answer = client.get("/", "ann");
            assert_eq!(answer.status(), 200, "{answer:?}");
            assert!(answer.text().contains(version) && answer.text().contains("s_server"), "{}", answer.text());
        }
        assert_eq!((handshakes(&app, "full"), handshakes(&app, "resumed")), (1.0, 3.0), "{version}");
        assert_eq!(app.outcomes("success"), 4.0);
    }
}
