"""Makes one connection after the other, with one request on each, and says as one line of JSON what became of them.

  python3 handshakes.py PORT SECONDS plain|full|resumed CERTIFICATE

`full`: each with a handshake of its own; `resumed`: each goes on from the session of the one before; `plain`: without
TLS, for what a new connection costs by itself. It is the load of `compare --tls`, which measures the proxy alone: how
fast this one is does not matter.
"""

import json
import socket
import ssl
import sys
import time

REQUEST = b"GET /v1/chat HTTP/1.1\r\nHost: localhost\r\nx-user-id: user-%d\r\nConnection: close\r\n\r\n"
USERS = 5000


def main():
    port, seconds, mode, certificate = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]
    context = ssl.create_default_context(cafile=certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    session, count, resumed, errors, cipher = None, 0, 0, 0, None
    if mode == "resumed":
        _, session, _, _ = once(port, context, None, 0)
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        try:
            good, newest, was_resumed, cipher = once(port, None if mode == "plain" else context, session, count % USERS)
            session = newest if mode == "resumed" else None
        except OSError:
            good, was_resumed = False, False
        count += 1
        resumed += was_resumed
        errors += not good
    print(json.dumps({"connections": count, "seconds": time.monotonic() - begun, "resumed": resumed, "errors": errors,
                      "cipher": cipher}))


def once(port, context, session, user):
    """Whether the answer was good, the session to go on from, whether this one went on, and the cipher."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            return ask(plain, user), None, False, None
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as secured:
            good = ask(secured, user)
            return good, secured.session, secured.session_reused, " ".join(map(str, secured.cipher()[:2]))


def ask(connection, user):
    connection.sendall(REQUEST % user)
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"}")


if __name__ == "__main__":
    main()
