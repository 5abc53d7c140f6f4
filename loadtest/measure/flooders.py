"""Clients that mean harm: each process is one flood, until it is killed. Run by loadtest/flood.

  flooders.py KIND PORT SOURCE COUNT     from the address SOURCE, with COUNT connections
"""

import asyncio
import contextlib
import os
import random
import sys

GET = b"GET / HTTP/1.1\r\nhost: flood\r\nx-user-id: flood\r\n\r\n"
H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# :method GET, :scheme http, :path /, :authority a
H2_FIELDS = b"\x82\x86\x84\x01\x01a"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9


async def connections(open_one):
    """Opened as fast as it goes, and held for a while."""
    async with open_one():
        await asyncio.sleep(random.uniform(0.5, 3))


async def churn(open_one):
    """Opened and gone."""
    async with open_one() as (_, writer):
        writer.write(GET[:random.randrange(len(GET))])


async def slowloris(open_one):
    async with open_one() as (_, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: flood\r\n")
        while True:
            writer.write(b"x: y\r\n")
            await writer.drain()
            await asyncio.sleep(1)


async def heads(open_one):
    """Too large, too many fields, or as large as may be."""
    async with open_one() as (reader, writer):
        field = random.choice([b"x: " + b"y" * 60_000, b"x: y\r\n" * 150 + b"x: y", b"x: " + b"y" * 30_000])
        for _ in range(20):
            writer.write(GET[:-2] + field + b"\r\n\r\n")
            await writer.drain()
        await asyncio.wait_for(reader.read(1 << 16), 1)


async def bodies(open_one):
    """Endless ones, to an agent that does not ask for them."""
    async with open_one() as (_, writer):
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: flood\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        while True:
            writer.write(chunk)
            await writer.drain()


async def unread(open_one):
    """Long answers that nobody reads."""
    async with open_one() as (_, writer):
        body = b'{"stream":true,"max_tokens":100000}'
        request = (b"POST /sse?tokens=100000&token_interval=0s HTTP/1.1\r\nhost: flood\r\ncontent-length: %d\r\n\r\n"
                   % len(body)) + body
        writer.write(request)
        await writer.drain()
        writer.transport.pause_reading()
        await asyncio.sleep(30)


async def garbage(open_one):
    async with open_one() as (reader, writer):
        writer.write(os.urandom(random.randrange(1, 4096)) + b"\r\n\r\n")
        await writer.drain()
        await asyncio.wait_for(reader.read(1 << 16), 1)


async def http2(open_one, frames):
    async with open_one() as (reader, writer):
        reading = asyncio.create_task(read_all(reader))
        writer.write(H2_PREFACE + frame(SETTINGS, 0, 0))
        stream = 1
        while not reading.done():
            for _ in range(50):
                writer.write(frames(stream))
                stream += 2
            await writer.drain()
        await reading


async def read_all(reader):
    while await reader.read(1 << 16):
        pass


async def rapid_reset(open_one):
    def frames(stream):
        return frame(HEADERS, 5, stream, H2_FIELDS) + frame(RST_STREAM, 0, stream, b"\0\0\0\x08")

    await http2(open_one, frames)


async def control_frames(open_one):
    await http2(open_one, lambda _: frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"12345678"))


async def continuations(open_one):
    def frames(stream):
        return frame(HEADERS if stream == 1 else CONTINUATION, 0, 1, b"\x00\x01x\x7f\x81\x01" + b"y" * 256)

    await http2(open_one, frames)


async def empty_data(open_one):
    def frames(stream):
        return frame(HEADERS, 4, stream, b"\x83\x86\x84\x01\x01a") + frame(DATA, 0, stream) * 20

    await http2(open_one, frames)


async def idle(open_one):
    """One request, and then nothing, for ever; says so when all have had theirs."""
    async with open_one() as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        idle.served += 1
        if idle.served == COUNT:
            print("all are idle", flush=True)
        await asyncio.sleep(1e9)


idle.served = 0

KINDS = {kind.__name__: kind for kind in [
    connections, churn, slowloris, heads, bodies, unread, garbage, rapid_reset, control_frames, continuations,
    empty_data, idle]}
# With HTTP/2 one connection does what many do otherwise, and a few bodies fill what there is.
COUNTS = {"connections": 6000, "slowloris": 6000, "churn": 64, "heads": 64, "bodies": 64, "unread": 256, "garbage": 64,
          "rapid_reset": 32, "control_frames": 32, "continuations": 32, "empty_data": 32}


def opener(port, source):
    @contextlib.asynccontextmanager
    async def open_one():
        opening = asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0), limit=1 << 16)
        reader, writer = await asyncio.wait_for(opening, 5)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    return open_one


async def again_and_again(kind, open_one):
    while True:
        # Whatever ends one, the next comes.
        with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            await kind(open_one)
        await asyncio.sleep(0.001)


async def main(kind, port, source, count):
    open_one = opener(port, source)
    clients = []
    for number in range(count):
        clients.append(asyncio.create_task(again_and_again(KINDS[kind], open_one)))
        if number % 200 == 199:
            await asyncio.sleep(0.05)
    await asyncio.gather(*clients)


if __name__ == "__main__":
    name, to, own, COUNT = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    asyncio.run(main(name, to, own, COUNT))
