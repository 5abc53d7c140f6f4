"""The proxy, what stands behind it, and the list of checks."""

import base64
import contextlib
import hashlib
import json
import re
import subprocess
import time
import urllib.request
from collections import defaultdict

# Longer than anything takes on a busy machine; what reaches it has failed.
PATIENCE = 30
REQUESTS = "pointsman_requests_total"
IN_FLIGHT = "pointsman_requests_in_flight"
TOKENS = "pointsman_gen_ai_tokens_total"

CHECKS = defaultdict(list)


def check(group):
    """Registers a function of the running proxy; its docstring says what must be true."""
    def register(function):
        assert function.__doc__, function
        CHECKS[group].append(function)
        return function
    return register


def equal(seen, expected):
    assert seen == expected, f"{seen!r}, expected {expected!r}"


def raises(kind, function, *arguments):
    """The exception of this kind that the call must raise."""
    try:
        got = function(*arguments)
    except kind as error:
        return error
    raise AssertionError(f"no {kind}, but {got!r}")


def digest(body):
    """As the mock agent's `repr-digest` says it."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def wait_until(what, condition):
    """Its first true value; what is counted at an end may come a moment after that."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {PATIENCE} s")


def one_version(version, address, path=None, **more):
    """An agent of the configuration."""
    agent = {"versions": {version: {"endpoints": [f"http://{address}"]}}, "stable": version, **more}
    return agent | {"match": [{"path_prefix": path}]} if path else agent


class Proxy:
    """Pointsman before a mock agent and two servers that run already. Leaving the block stops it and the agent."""

    def __init__(self, binary, directory, websockets, grpc_port):
        self.binary, self.directory = binary, directory
        self.websockets, self.grpc_port = websockets, grpc_port
        # What it did that no client of one check sees.
        self.complaints = []
        self.stack = contextlib.ExitStack()

    def __enter__(self):
        with self.stack:
            agent = self.start("mock-agent", ["mock-agent", "--address", "127.0.0.1:0", "--name", "1.4.2",
                                              "--latency", "0s", "--jitter", "0s", "--token-interval", "1ms"])
            agent_address = self.said("mock-agent", agent, r"on http://(\S+)")
            config = self.directory / "pointsman.yaml"
            config.write_text(self.configuration(agent_address))
            self.process = self.start("pointsman", ["run", "--config", config, "--log-format", "json"])
            self.address = self.said("pointsman", self.process, r'"message":"listening","address":"([^"]+)"')
            self.admin = self.said("pointsman", self.process, r'"admin side listening","address":"([^"]+)"')
            self.url = f"http://{self.address}"
            # Only now: what fails before stops the rest.
            self.stack = self.stack.pop_all()
        return self

    def configuration(self, agent):
        return json.dumps({
            "listeners": [{"address": "127.0.0.1:0"}],
            "admin": {"address": "127.0.0.1:0"},
            "state_dir": "none",
            "workers": 2,
            "agents": {
                "chat": one_version("1.4.2", agent),
                "tunnel": one_version("2.0.0", f"127.0.0.1:{self.websockets.port}", path="/ws"),
                "grpc": one_version("3.0.0", f"127.0.0.1:{self.grpc_port}", path="/test.Agent", protocol="http2"),
            },
        })

    def start(self, name, arguments):
        with open(self.directory / f"{name}.log", "wb") as output:
            process = subprocess.Popen([self.binary, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=subprocess.STDOUT)
        self.stack.callback(process.kill)
        return process

    def log(self, name="pointsman"):
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def said(self, name, process, pattern):
        def found():
            assert process.poll() is None, f"{name} ended: {self.log(name)}"
            return re.search(pattern, self.log(name))
        return wait_until(f"{name} says {pattern}", found)[1]

    def __exit__(self, *_):
        with self.stack:
            self.process.terminate()
            try:
                status = self.process.wait(PATIENCE)
                self.complaints += [f"exit status {status}"] if status else []
            except subprocess.TimeoutExpired:
                self.complaints.append("no end after SIGTERM")
            bad = [line for line in self.log().splitlines() if "panicked" in line or '"level":"ERROR"' in line]
            self.complaints += bad[:5]

    def count(self, agent, metric=REQUESTS, **labels):
        """A counter of the agent, over all series with these labels."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        wanted = {f'{name}="{value}"' for name, value in {"agent": agent, **labels}.items()}
        series = [line for line in lines if line.startswith(f"{metric}{{")]
        return sum(float(line.split()[-1]) for line in series if all(pair in line for pair in wanted))

    @contextlib.contextmanager
    def counts(self, number, agent, **labels):
        """That the block's requests add just so much. What an earlier check began has ended before it."""
        wait_until(f"no request of {agent} in flight", lambda: self.count(agent, metric=IN_FLIGHT) == 0)
        before = self.count(agent, **labels)
        yield
        wait_until(f"{number} more of {agent} {labels}", lambda: self.count(agent, **labels) >= before + number)
        equal(self.count(agent, **labels) - before, number)
