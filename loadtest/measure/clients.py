"""Clients, good and bad, on one event loop. Each is endless; what it saw goes into the tally."""

import asyncio
import collections
import contextlib
import itertools
import json
import random

PATIENCE = 20


class Tally(collections.Counter):
    """How often what happened. What ought not to is under `wrong: …`."""

    def wrong(self, what):
        self[f"wrong: {what}"] += 1

    def wrongs(self):
        return {name: count for name, count in self.items() if name.startswith("wrong: ")}


class Gone(Exception):
    """The other side has closed."""


class Connection:
    def __init__(self, port, source="127.0.0.1"):
        self.port, self.source = port, source

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(self.source, 0), limit=1 << 20)
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    async def send(self, data):
        if self.writer.transport.is_closing():
            raise Gone
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def head(self):
        """The status and the fields of the next answer."""
        async with asyncio.timeout(PATIENCE):
            try:
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Gone from error
        start, *lines = head.rstrip().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        return int(start.split(" ")[1]), fields

    async def body(self, fields):
        """Its body, piece by piece."""
        if "content-length" in fields:
            yield await self.bytes(int(fields["content-length"]))
            return
        while piece := await self.chunk():
            yield piece

    async def chunk(self):
        async with asyncio.timeout(PATIENCE):
            try:
                size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Gone from error
        return (await self.bytes(size + 2))[:-2]

    async def bytes(self, count):
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.readexactly(count)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Gone from error

    async def whole(self):
        status, fields = await self.head()
        return status, b"".join([piece async for piece in self.body(fields)])


def post(user, body, path="/v1/chat/completions"):
    body = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nhost: soak\r\nx-user-id: {user}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n").encode() + body


def user():
    return f"user-{random.randrange(100_000)}"


async def plain(port, tally):
    """Requests over a connection that is kept for a while; each a conversation of its own, or an old one."""
    while True:
        async with Connection(port) as connection:
            for _ in range(random.randrange(1, 200)):
                await connection.send(post(user(), {"conversation": random.randrange(1_000_000)}))
                status, body = await connection.whole()
                # The broken version answers 500 until it has been taken out.
                tally[f"plain {status}"] += 1
                if status not in (200, 500) or status == 200 and not body.endswith(b"}"):
                    tally.wrong(f"plain {status}")
                await asyncio.sleep(0.005)


async def stream(port, tally):
    while True:
        async with Connection(port) as connection:
            for _ in range(20):
                await connection.send(post(user(), {"stream": True, "max_tokens": 20}))
                status, fields = await connection.head()
                text = b"".join([piece async for piece in connection.body(fields)])
                tally[f"stream {status}"] += 1
                if status == 200 and b"[DONE]" not in text or status not in (200, 500):
                    tally.wrong(f"stream {status}")


async def canceller(port, tally):
    """Leaves in the middle of a stream, or before its head."""
    while True:
        async with Connection(port) as connection:
            await connection.send(post(user(), {"stream": True, "max_tokens": 1000}))
            if random.random() < 0.7:
                _, fields = await connection.head()
                async for _ in connection.body(fields):
                    if random.random() < 0.3:
                        break
            tally["cancelled"] += 1
        await asyncio.sleep(0.02)


BAD = [
    b"GARBAGE\r\n\r\n", b"\0" * 100 + b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 40_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 200 + b"\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nnot a size\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 60,
    b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", b"GET /" + b"x" * 40_000,
]


async def bad(port, tally):
    for request in itertools.cycle(BAD):
        async with Connection(port) as connection:
            await connection.send(request)
            if request.startswith(b"PRI"):
                # To each its own protocol: a GOAWAY, and the end.
                with contextlib.suppress(ConnectionError):
                    await asyncio.wait_for(connection.reader.read(), PATIENCE)
                tally["bad h2"] += 1
                continue
            try:
                status, _ = await connection.head()
            except Gone:
                status = 0
            tally[f"bad {status}"] += 1
            if status not in (0, 400, 404, 408, 413, 414, 431, 501, 505):
                tally.wrong(f"{status} to {request[:60]!r}")
        await asyncio.sleep(0.02)


async def slow(port, tally):
    """A few bytes now and then, both ways."""
    while True:
        async with Connection(port) as connection:
            try:
                request = post(user(), {"stream": True, "max_tokens": 40})
                for start in range(0, len(request), 5):
                    await connection.send(request[start:start + 5])
                    await asyncio.sleep(0.01)
                status, fields = await connection.head()
                async for _ in connection.body(fields):
                    await asyncio.sleep(0.05)
                tally[f"slow {status}"] += 1
                if status not in (200, 500):
                    tally.wrong(f"slow {status}")
            except Gone:
                tally.wrong("slow client cut off")


MIX = [(plain, 8), (stream, 8), (canceller, 4), (bad, 2), (slow, 4)]


async def endless(client, port, tally):
    """What it raises is wrong, and it goes on."""
    while True:
        try:
            await client(port, tally)
        except (Gone, OSError, TimeoutError, ValueError) as error:
            tally.wrong(f"{client.__name__}: {type(error).__name__} {error}")
            await asyncio.sleep(0.1)
