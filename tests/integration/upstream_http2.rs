//! Endpoints that speak HTTP/2, behind clients of HTTP/1.1: what passes and how, and what connections it takes.

mod end_to_end;
pub mod endpoint;
mod faults;
mod grpc;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

use bytes::Bytes;
use h2::server::Builder;
use http::{Response, StatusCode};
use tokio::sync::Notify;

use crate::harness::{PATIENCE, eventually};
use endpoint::{Endpoint2, fields, pattern, post, response, send};

/// The request as the endpoint sees it, as text.
fn echo() -> Endpoint2 {
    Endpoint2::start(|mut call| async move {
        let (body, trailers) = call.body().await;
        let mut text = format!("{} {}\n", call.request.method(), call.request.uri());
        for (name, value) in call.request.headers() {
            text += &format!("{name}: {}\n", value.to_str().unwrap());
        }
        text += &format!("\n{}", String::from_utf8_lossy(&body));
        for (name, value) in trailers.iter().flatten() {
            text += &format!("\n{name}: {}", value.to_str().unwrap());
        }
        call.answer(text).await;
    })
}

#[test]
fn a_request_is_rebuilt_for_http2() {
    let endpoint = echo();
    let app = endpoint.app("");
    let mut client = app.client();
    let request = "POST /a?b=c HTTP/1.1\r\nHost: Agent.test:80\r\nconnection: x-secret, te\r\nx-secret: 1\r\n\
                   te: trailers, deflate\r\nkeep-alive: 1\r\nx-pointsman-version: 9.9.9\r\nX-Kept: yes\r\n\
                   content-length: 5\r\n\r\nhello";
    let expected = "POST http://Agent.test:80/a?b=c\nx-kept: yes\nx-forwarded-for: 127.0.0.1\n\
                    x-forwarded-proto: http\nx-forwarded-host: Agent.test:80\n\
                    forwarded: for=127.0.0.1;host=\"Agent.test:80\";proto=http\ncontent-length: 5\nte: trailers\n\nhello";
    let answer = client.ask(request);
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!((answer.status(), sorted(answer.text())), (200, sorted(expected)));
    assert_eq!(answer.version(), "1.0.0");

    let answer =
        client.ask("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 192.0.2.1\r\nforwarded: for=192.0.2.1\r\n\r\n");
    assert!(answer.text().contains("\nx-forwarded-for: 127.0.0.1\n"), "{answer:?}");
    assert!(answer.text().contains("\nforwarded: for=127.0.0.1;host=\"a\";proto=http\n"), "{answer:?}");
    assert!(!answer.text().contains("content-length"), "{answer:?}");
    // A host that the proxy takes and that is no authority.
    let answer = client.ask("OPTIONS * HTTP/1.1\r\nhost: a%41\r\n\r\n");
    assert!(answer.text().starts_with("OPTIONS ") && answer.text().contains("\nhost: a%41\n"), "{answer:?}");
    assert_eq!(endpoint.connections(), 1);
}

#[test]
fn the_host_policy_and_unix_sockets_hold_for_http2() {
    let folder = tempfile::tempdir().unwrap();
    let endpoint = Endpoint2::at_path(&folder.path().join("agent.sock"), |call| async move {
        let text = call.request.uri().to_string();
        call.answer(text).await;
    });
    let app = endpoint.app("    host: agent.internal\n");
    assert_eq!(app.client().get("/x", "ann").text(), "http://agent.internal/x");
}

#[test]
fn long_bodies_pass_both_ways_unharmed() {
    let endpoint = Endpoint2::start(|mut call| async move {
        let (body, _) = call.body().await;
        let mut stream = call.head(Response::new(()));
        send(&mut stream, body.into()).await.unwrap();
        stream.send_data(Bytes::new(), true).unwrap();
    });
    let app = endpoint.app("");
    let body = pattern(3_000_000);
    let mut client = app.client();
    for chunked in [false, true] {
        if chunked {
            client.write("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
            for chunk in body.chunks(7_777) {
                client.write([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).unwrap();
            }
            client.write("0\r\n\r\n").unwrap();
        } else {
            post(&mut client, "/", "", &body);
        }
        let answer = client.message().unwrap();
        assert!(answer.body == body, "{} bytes", answer.body.len());
    }
}

#[test]
fn a_stream_passes_event_by_event_and_interim_answers_before_it() {
    let (taken, events) = mpsc::channel::<()>();
    let events = Arc::new(std::sync::Mutex::new(events));
    let endpoint = Endpoint2::start(move |mut call| {
        let events = events.clone();
        async move {
            let mut hints = response(&[("link", "</a>")]);
            *hints.status_mut() = StatusCode::EARLY_HINTS;
            call.respond.send_informational(hints).unwrap();
            let mut stream = call.head(response(&[("content-type", "text/event-stream")]));
            for _ in 0..3 {
                send(&mut stream, Bytes::from_static(b"data: x\n\n")).await.unwrap();
                // Not before the client has this one.
                let events = events.clone();
                let got = tokio::task::spawn_blocking(move || events.lock().unwrap().recv_timeout(PATIENCE));
                got.await.unwrap().unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
        }
    });
    let app = endpoint.app("");
    let mut client = app.client();
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let hints = client.head().unwrap();
    assert_eq!((hints.status(), hints.header("link")), (103, Some("</a>")));
    assert_eq!(client.head().unwrap().status(), 200);
    for _ in 0..3 {
        assert_eq!(client.chunk().unwrap().unwrap(), b"data: x\n\n");
        taken.send(()).unwrap();
    }
    assert_eq!(client.chunk(), Some(None));
    eventually("it is counted", || app.outcomes("success") == 1.0);
}

#[test]
fn trailers_pass_both_ways_but_for_those_that_frame_route_or_authorise() {
    let endpoint = Endpoint2::start(|mut call| async move {
        let (_, trailers) = call.body().await;
        let mut stream = call.head(response(&[("trailer", "x-sum, x-got")]));
        send(&mut stream, Bytes::from_static(b"x")).await.unwrap();
        let mut fields = fields(&[("x-sum", "1"), ("content-length", "9"), ("set-cookie", "a=b")]);
        fields.insert("x-got", format!("{:?}", trailers.unwrap()).parse().unwrap());
        stream.send_trailers(fields).unwrap();
    });
    let app = endpoint.app("");
    let mut client = app.client();
    let request = "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n\
                   2\r\nhi\r\n0\r\nx-checksum: 7\r\nauthorization: none\r\nhost: b\r\n\r\n";
    client.write(request).unwrap();
    assert_eq!(client.head().unwrap().status(), 200);
    assert_eq!(client.line().as_deref(), Some("1"));
    assert_eq!([client.line(), client.line()].map(Option::unwrap), ["x", "0"]);
    let mut trailers = [client.line().unwrap(), client.line().unwrap(), client.line().unwrap()];
    trailers.sort();
    assert_eq!(trailers, ["", "x-got: {\"x-checksum\": \"7\"}", "x-sum: 1"]);
}

#[test]
fn an_answer_ends_where_its_head_says() {
    let endpoint = Endpoint2::start(|mut call| async move {
        match call.path() {
            "/204" => {
                // A length that is none: a client that believed it would take the next answer for a body.
                let mut head = response(&[("content-length", "5")]);
                *head.status_mut() = StatusCode::NO_CONTENT;
                call.respond.send_response(head, true).unwrap();
            }
            // All that was announced, and no end of the stream until the proxy has done with it.
            "/announced" => {
                let mut stream = call.head(response(&[("content-length", "2")]));
                send(&mut stream, Bytes::from_static(b"ok")).await.unwrap();
                let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            }
            // To HEAD: announced, and never sent; some frameworks end the stream only with an empty frame.
            _ => {
                let mut stream = call.head(response(&[("content-length", "5")]));
                tokio::task::yield_now().await;
                let _ = stream.send_data(Bytes::new(), true);
            }
        }
    });
    let app = endpoint.app("");
    let mut client = app.client();
    for _ in 0..3 {
        let empty = client.ask("GET /204 HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!((empty.status(), empty.header("content-length")), (204, None));
        assert_eq!(client.ask("GET /announced HTTP/1.1\r\nhost: a\r\n\r\n").text(), "ok");
        client.write("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!(client.head().unwrap().header("content-length"), Some("5"));
    }
    eventually("all are counted as whole", || app.outcomes("success") == 9.0);
}

#[test]
fn many_requests_at_once_share_few_connections() {
    const CLIENTS: usize = 1000;
    let (all, here) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let endpoint = Endpoint2::start(move |call| {
        let (all, here) = (all.clone(), here.clone());
        async move {
            let released = all.notified();
            if here.fetch_add(1, Ordering::SeqCst) + 1 == CLIENTS {
                all.notify_waiters();
            } else {
                released.await;
            }
            call.answer("ok").await;
        }
    });
    let app = endpoint.app("    timeouts: { connect: 20s }\n");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| app.client()).collect();
    for client in &mut clients {
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.message().unwrap().text(), "ok");
    }
    // A hundred streams each, and each worker opens its own.
    assert!(endpoint.connections() <= CLIENTS / 100 + 2, "{} connections", endpoint.connections());
    assert_eq!(app.metric("pointsman_upstream_connections_opened_total"), endpoint.connections() as f64);
}

#[test]
fn an_endpoint_that_takes_one_stream_at_a_time_gets_one_at_a_time() {
    let (busy, gate) = (Arc::new(std::sync::Mutex::new(Vec::new())), Arc::new(Barrier::new(20)));
    let seen = busy.clone();
    let mut one = Builder::new();
    one.max_concurrent_streams(1);
    let endpoint = Endpoint2::with(one, move |call| {
        let seen = seen.clone();
        async move {
            let connection = call.connection;
            assert!(!seen.lock().unwrap().contains(&connection), "two at once on connection {connection}");
            seen.lock().unwrap().push(connection);
            tokio::time::sleep(Duration::from_millis(2)).await;
            seen.lock().unwrap().retain(|busy| *busy != connection);
            call.answer("ok").await;
        }
    });
    let app = endpoint.app("    timeouts: { connect: 20s }\n");
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let (mut client, gate) = (app.client(), gate.clone());
            std::thread::spawn(move || {
                gate.wait();
                (0..20).for_each(|_| assert_eq!(client.get("/", "ann").text(), "ok"));
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert!((1..=20).contains(&endpoint.connections()), "{}", endpoint.connections());
}

#[test]
fn an_idle_connection_is_closed_after_the_agent_s_pool_idle() {
    let endpoint = Endpoint2::start(|call| async move { call.answer("ok").await });
    let app = endpoint.app("    timeouts: { pool_idle: 0s }\n");
    let mut client = app.client();
    assert_eq!(client.get("/", "ann").text(), "ok");
    // The sweep comes by each second; until then the connection may still be used.
    eventually("a second connection", || {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(client.get("/", "ann").text(), "ok");
        endpoint.connections() == 2
    });
}
