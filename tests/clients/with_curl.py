"""curl over HTTP/1.1 and over HTTP/2 with prior knowledge."""

import json
import subprocess

from harness import PATIENCE, TOKENS, check, digest, equal

H2 = "--http2-prior-knowledge"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "three short words"}], "max_tokens": 20})
STREAM = json.dumps({"model": "m", "stream": True, "max_tokens": 20})


def curl(proxy, path, *arguments, status=0):
    """The answer's head as a dictionary, and its body; `status` is what curl must end with."""
    head = proxy.directory / "curl.head"
    command = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE), "--dump-header", head,
               *arguments, proxy.url + path]
    done = subprocess.run(command, capture_output=True, check=False)
    equal((done.returncode, done.stderr if done.returncode != status else b""), (status, b""))
    first, *fields = head.read_text().splitlines()
    pairs = (field.split(":", 1) for field in fields if ":" in field)
    return {"": first} | {name.lower(): value.strip() for name, value in pairs}, done.stdout


def completion(proxy, *arguments):
    head, body = curl(proxy, "/v1/chat/completions", "--json", BODY, *arguments)
    answer = json.loads(body)
    equal((answer["usage"]["prompt_tokens"], answer["system_fingerprint"]), (3, "1.4.2"))
    equal(head["x-pointsman-version"], "1.4.2")
    return head


def events(proxy, *arguments):
    head, body = curl(proxy, "/v1/chat/completions", "-N", "--json", STREAM, *arguments)
    equal((head["content-type"], head["repr-digest"]), ("text/event-stream", digest(body)))
    assert body.endswith(b"data: [DONE]\n\n"), body
    return head


def first_half(proxy, *arguments):
    """What is sent before a stream falls silent reaches the client, although the stream never ends."""
    command = ["curl", "-sN", *arguments, f"{proxy.url}/sse?tokens=4&fault=stall"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            seen = b"".join(process.stdout.readline() for _ in range(8))
        finally:
            process.kill()
    equal(seen, b": mock\n\nevent: token\ndata: The\n\nevent: token\ndata:  points\n\n")


def upload(proxy, *arguments):
    words = proxy.directory / "words.json"
    words.write_text(json.dumps({"messages": [{"content": "word " * 140_000}], "max_tokens": 1}))
    _, body = curl(proxy, "/v1/chat/completions", "--json", f"@{words}", *arguments)
    equal(json.loads(body)["usage"]["prompt_tokens"], 140_000)


def kept(proxy, *arguments):
    """Four transfers by one curl, and how many connections it made for them."""
    each = ["-o", "/dev/null", "--write-out", "%{num_connects} %{http_code}\n"]
    urls = [proxy.url + path for path in ["/sse?tokens=3", "/ndjson?tokens=3", "/healthz", "/"]]
    first, *rest = urls
    command = ["curl", "-sS", *arguments, *each, first]
    for url in rest:
        command += ["--next", "-sS", *arguments, *each, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    equal(done.stdout, "1 200\n0 200\n0 200\n0 200\n")


@check("curl")
def h1_json(proxy):
    """a completion over HTTP/1.1"""
    with proxy.counts(1, "chat", outcome="success"):
        equal(completion(proxy, "--http1.1")[""], "HTTP/1.1 200 OK")


@check("curl")
def h1_events(proxy):
    """server-sent events over HTTP/1.1 have each byte"""
    events(proxy, "--http1.1")


@check("curl")
def h1_unbuffered(proxy):
    """over HTTP/1.1 events come as they are sent"""
    with proxy.counts(1, "chat", outcome="client_cancel"):
        first_half(proxy, "--http1.1")


@check("curl")
def h1_cut(proxy):
    """a stream that breaks off is a broken transfer over HTTP/1.1, and is counted"""
    with proxy.counts(1, "chat", outcome="truncated"):
        curl(proxy, "/sse?tokens=4&fault=cut", "--http1.1", status=18)


@check("curl")
def h1_upload(proxy):
    """a body of 700 kB arrives whole over HTTP/1.1"""
    upload(proxy, "--http1.1")


@check("curl")
def h1_messages(proxy):
    """Anthropic's events have each byte, and their running counts of tokens are not added up"""
    with proxy.counts(20, "chat", metric=TOKENS, gen_ai_token_type="output"):
        head, body = curl(proxy, "/v1/messages", "-N", "--http1.1", "--json", STREAM)
    equal(head["repr-digest"], digest(body))
    assert body.endswith(b'data: {"type":"message_stop"}\n\n'), body


@check("curl")
def h1_kept(proxy):
    """one HTTP/1.1 connection takes one request after the other, also after a stream"""
    kept(proxy, "--http1.1")


@check("curl")
def h2_json(proxy):
    """a completion over HTTP/2"""
    with proxy.counts(1, "chat", outcome="success"):
        assert completion(proxy, H2)[""].startswith("HTTP/2 200")


@check("curl")
def h2_events(proxy):
    """server-sent events over HTTP/2 have each byte"""
    events(proxy, H2)


@check("curl")
def h2_unbuffered(proxy):
    """over HTTP/2 events come as they are sent"""
    with proxy.counts(1, "chat", outcome="client_cancel"):
        first_half(proxy, H2)


@check("curl")
def h2_cut(proxy):
    """a stream that breaks off is a reset stream over HTTP/2, behind all that came before, and is counted"""
    with proxy.counts(1, "chat", outcome="truncated"):
        _, body = curl(proxy, "/sse?tokens=4&fault=cut", H2, status=92)
    assert body.startswith(b": mock\n\nevent: token\ndata: The\n\n"), body


@check("curl")
def h2_upload(proxy):
    """a body of 700 kB arrives whole over HTTP/2"""
    upload(proxy, H2)
