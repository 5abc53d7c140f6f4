"""The websockets package on both ends of a tunnel."""

import contextlib
import threading

from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import serve

from harness import PATIENCE, check, equal, raises, wait_until


class Server:
    """Answers with what it hears; `close CODE` closes with that code."""

    def __enter__(self):
        # How each connection was closed.
        self.ends = []
        self.listening = serve(self.echo, "127.0.0.1", 0, process_request=refuse, subprotocols=["chat.v2"],
                               max_size=None)
        self.port = self.listening.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.listening.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listening.shutdown()
        self.thread.join(PATIENCE)

    def echo(self, connection):
        # Its iterator ends with a good end; another is none of the server's faults.
        with contextlib.suppress(ConnectionClosedError):
            for message in connection:
                if isinstance(message, str) and message.startswith("close "):
                    connection.close(int(message.split()[1]), "as you wish")
                    break
                connection.send(message)
        self.ends.append((connection.protocol.close_code, connection.protocol.close_reason))


def refuse(connection, request):
    return connection.respond(403, "not you\n") if request.path.endswith("/refused") else None


def tunnel(proxy, path="/ws/echo"):
    return connect(f"ws://{proxy.address}{path}", open_timeout=PATIENCE, close_timeout=PATIENCE, max_size=None,
                   subprotocols=["chat.v1", "chat.v2"], proxy=None)


@check("websockets")
def echoes(proxy):
    """texts and bytes come back, in order"""
    with tunnel(proxy) as socket:
        sent = ["text", b"\x00\xff", "", "ü" * 70_000, b"x" * 1_000_000]
        for message in sent:
            socket.send(message)
        equal([socket.recv(PATIENCE) for _ in sent], sent)


@check("websockets")
def version(proxy):
    """the handshake's answer names the version that was chosen, and the subprotocol"""
    with tunnel(proxy) as socket:
        equal((socket.response.status_code, socket.response.headers["x-pointsman-version"]), (101, "2.0.0"))
        equal(socket.subprotocol, "chat.v2")


@check("websockets")
def pings(proxy):
    """pings pass in both directions"""
    with tunnel(proxy) as socket:
        assert socket.ping().wait(PATIENCE), "no pong"


@check("websockets")
def fragments(proxy):
    """a message in fragments is one message"""
    with tunnel(proxy) as socket:
        socket.send(iter(["a" * 10, "b" * 10_000, "c"]))
        equal(socket.recv(PATIENCE), "a" * 10 + "b" * 10_000 + "c")


@check("websockets")
def closed_by_client(proxy):
    """the client's closing code reaches the server"""
    before = len(proxy.websockets.ends)
    with tunnel(proxy) as socket:
        socket.send("one")
        equal(socket.recv(PATIENCE), "one")
        socket.close(4001, "enough")
    wait_until("the code at the server", lambda: (4001, "enough") in proxy.websockets.ends[before:])


@check("websockets")
def closed_by_server(proxy):
    """the server's closing code reaches the client"""
    for code, kind in [(1000, ConnectionClosedOK), (1011, ConnectionClosedError), (4999, ConnectionClosedError)]:
        with tunnel(proxy) as socket:
            socket.send(f"close {code}")
            error = raises(kind, socket.recv, PATIENCE)
            equal((error.rcvd.code, error.rcvd.reason), (code, "as you wish"))


@check("websockets")
def counted(proxy):
    """a tunnel is one request, which ends with it"""
    with proxy.counts(1, "tunnel", outcome="success", status_class="1xx"), tunnel(proxy) as socket:
        socket.send("one")
        equal(socket.recv(PATIENCE), "one")


@check("websockets")
def refused(proxy):
    """a server that refuses the handshake is heard"""
    error = raises(InvalidStatus, tunnel, proxy, "/ws/refused")
    equal((error.response.status_code, error.response.body), (403, b"not you\n"))


@check("websockets")
def many(proxy):
    """50 tunnels at once, each with its own messages"""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(tunnel(proxy)) for _ in range(50)]
        for number, socket in enumerate(sockets):
            socket.send(f"of {number}")
        equal([socket.recv(PATIENCE) for socket in sockets], [f"of {number}" for number in range(50)])
