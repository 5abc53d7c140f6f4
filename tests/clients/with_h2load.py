"""h2load: thousands of requests over a few HTTP/2 connections, none of them lost."""

import json
import re
import subprocess

from harness import PATIENCE, check, equal

REQUESTS = 2000


def load(proxy, path, *arguments):
    command = ["h2load", "--requests", str(REQUESTS), "--clients", "4", "--max-concurrent-streams", "25",
               *arguments, proxy.url + path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE, check=True)
    said = re.search(r"^requests: .*$", done.stdout, re.MULTILINE)[0]
    everything = f"{REQUESTS} total, {REQUESTS} started, {REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored"
    assert everything in said, done.stdout
    equal(re.search(r"^status codes: (\d+) 2xx", done.stdout, re.MULTILINE)[1], str(REQUESTS))


@check("h2load")
def plain(proxy):
    """2000 requests over HTTP/2, 100 at once"""
    with proxy.counts(REQUESTS, "chat", outcome="success"):
        load(proxy, "/healthz")


@check("h2load")
def streams(proxy):
    """2000 streams over HTTP/2, 100 at once"""
    body = proxy.directory / "stream.json"
    body.write_text(json.dumps({"stream": True, "max_tokens": 5}))
    with proxy.counts(REQUESTS, "chat", outcome="success"):
        load(proxy, "/v1/chat/completions?token_interval=0s", "--data", str(body))


@check("h2load")
def http1(proxy):
    """2000 requests over HTTP/1.1, 25 pipelined on each of 4 connections"""
    with proxy.counts(REQUESTS, "chat", outcome="success"):
        load(proxy, "/healthz", "--h1")
