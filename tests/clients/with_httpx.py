"""httpx over HTTP/2 with prior knowledge, and OpenAI's client over that."""

import asyncio

import httpx

from harness import PATIENCE, check, digest, equal, raises

STREAM = {"model": "m", "stream": True, "max_tokens": 20}


def client(proxy, kind=httpx.Client):
    return kind(base_url=proxy.url, http1=False, http2=True, timeout=PATIENCE, trust_env=False)


@check("httpx")
def completion(proxy):
    """a completion over HTTP/2"""
    with client(proxy) as c, proxy.counts(1, "chat", outcome="success"):
        answer = c.post("/v1/chat/completions", json={"messages": [{"content": "three short words"}]})
    equal((answer.http_version, answer.status_code, answer.headers["x-pointsman-version"]), ("HTTP/2", 200, "1.4.2"))
    equal(answer.json()["usage"]["prompt_tokens"], 3)


@check("httpx")
def events(proxy):
    """server-sent events over HTTP/2 have each byte"""
    with client(proxy) as c, c.stream("POST", "/v1/chat/completions", json=STREAM) as answer:
        body = b"".join(answer.iter_bytes())
    equal((answer.http_version, answer.headers["repr-digest"]), ("HTTP/2", digest(body)))


@check("httpx")
def lines(proxy):
    """lines of JSON over HTTP/2 have each byte"""
    with client(proxy) as c:
        answer = c.get("/ndjson?tokens=200&token_interval=0s")
    equal((len(answer.text.splitlines()), answer.headers["repr-digest"]), (201, digest(answer.content)))


@check("httpx")
def unbuffered(proxy):
    """over HTTP/2 events come as they are sent, and a stream that is given up is the client's cancel"""
    with proxy.counts(1, "chat", outcome="client_cancel"), client(proxy) as c:
        with c.stream("GET", "/sse?tokens=4&fault=stall") as answer:
            lines = answer.iter_lines()
            equal([next(lines) for _ in range(6)], [": mock", "", "event: token", "data: The", "", "event: token"])


@check("httpx")
def cut(proxy):
    """a stream that breaks off is a reset over HTTP/2, and the connection goes on"""
    with client(proxy) as c:
        with proxy.counts(1, "chat", outcome="truncated"):
            raises(httpx.RemoteProtocolError, c.get, "/sse?tokens=4&fault=cut")
        equal(c.get("/healthz").status_code, 200)


@check("httpx")
def upload(proxy):
    """a body of 700 kB, beyond any first window, arrives whole over HTTP/2"""
    with client(proxy) as c:
        answer = c.post("/v1/chat/completions", json={"messages": [{"content": "word " * 140_000}], "max_tokens": 1})
    equal(answer.json()["usage"]["prompt_tokens"], 140_000)


@check("httpx")
def multiplexed(proxy):
    """50 streams at once over one connection are all whole"""
    async def all_at_once():
        async with client(proxy, httpx.AsyncClient) as c:
            async def one():
                answer = await c.post("/v1/chat/completions", json=STREAM)
                return answer.headers["repr-digest"] == digest(answer.content)
            return await asyncio.gather(*(one() for _ in range(50)))

    with proxy.counts(50, "chat", outcome="success"):
        equal(asyncio.run(all_at_once()), [True] * 50)
