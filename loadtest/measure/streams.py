"""What a stream costs: time to its first token, CPU per megabyte, memory of ten thousand at once."""

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from . import wire
from .children import allow_open_files, cpu_seconds, free_port, need, precise_cpu_seconds, resident_bytes, say
from .peers import BARE, HERE, PROBED_USERS, UNTAPPED, address_words, check_split, start_proxies, start_proxy
from .report import machine, print_table

PARTS = ["time", "tap", "wire", "memory"]
# Of a proxy beside its connections: listeners, logs, and what its threads wait with.
SPARE_FILES = 200
STREAMS_PER_HTTP2_CONNECTION = 100
# A look at the memory when all streams have been open for so long.
SETTLING_SECONDS = 2
DIRECT = "direct"


@dataclass(frozen=True)
class Shape:
    """How many streams at once, and how they go."""
    name: str
    streams: int
    ramp: float
    query: str


ONE = Shape("1 stream", 1, 0, "tokens=5&token_interval=1ms")
# 20 tokens a second for two seconds. The starts are spread over these, and stay so.
MANY = Shape("512 streams", 512, 2, "tokens=40&token_interval=50ms")
FAST = Shape("full speed", 8, 0, "tokens=20000&token_interval=0s")
SHAPES = [ONE, MANY, FAST]
# Of each of two at the same time.
HALVES = [Shape("512 streams", 256, 2, MANY.query), Shape("full speed", 4, 0, FAST.query)]


def compare(options, directory, children):
    need("nginx", "taskset")
    open_files = allow_open_files()
    client = options.client or build_client()
    tables = []
    if "time" in options.parts:
        tables += compare_times(options, directory, children, client)
    if "tap" in options.parts and options.binary.is_file():
        tables.append(compare_tap(options, directory, children, client))
    if "wire" in options.parts and wire.is_possible():
        tables.append(compare_on_wire(options, directory, children, client))
    if "memory" in options.parts:
        tables += compare_memory(options, directory, children, client, open_files)

    def report():
        for caption, header, rows in tables:
            print(caption, end="\n\n")
            print_table(header, rows, options.markdown)
            print()

    return report


def build_client():
    say("building the client of the streams")
    command = ["cargo", "build", "--release", "--locked", "--bench", "streams", "--message-format", "json"]
    built = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    return next(m["executable"] for m in messages
                if m["reason"] == "compiler-artifact" and m["target"]["name"] == "streams")


def start_agents(options, children):
    """The two versions, which answer at once; their addresses as the configurations have them."""
    # What nginx and HAProxy need so as not to hold events back.
    words = {"CLIENTS": 4096, "CONNECTIONS": 8192, "NGINX_STREAMS": "proxy_buffering off;",
             "HAPROXY_STREAMS": "option http-no-delay", "POINTSMAN_STREAMS": ""}
    for name in ["stable", "canary"]:
        port = free_port()
        children.start(name, options.cores[1], [
            options.binary.resolve(), "mock-agent", "--address", f"127.0.0.1:{port}", "--name", name,
            "--latency", "0s", "--jitter", "0s"])
        words |= address_words(name.upper(), port)
    return words


# --- time and CPU ------------------------------------------------------------------------------------


@dataclass
class Turn:
    p50_us: float
    p99_us: float
    cpu_ms_per_megabyte: float | None


def compare_times(options, directory, children, client):
    words = start_agents(options, children)
    direct_port = int(words["STABLE_LISTEN"].rpartition(":")[2])
    peers = start_proxies(options, directory, children, words)
    for peer in peers:
        say(f"{peer.name}: {peer.version}; {check_split(peer):.1%} of {PROBED_USERS} users get the canary")
    contestants = [None, *peers]
    rounds = []
    for number in range(options.rounds):
        rounds.append({})
        first = number % len(contestants)
        for shape in SHAPES:
            for peer in contestants[first:] + contestants[:first]:
                name = peer.name if peer else DIRECT
                port = direct_port if peer is None else peer.http2_port if options.http2 else peer.port
                rounds[-1][name, shape] = taken = turn(options, name, peer, port, shape, children, client)
                say(f"round {number + 1}/{options.rounds}  {shape.name:<11}  {name:<18} first token p50 "
                    f"{taken.p50_us:6.0f} µs  p99 {taken.p99_us:6.0f} µs" + cpu_text(taken))
    for peer in peers:
        check_split(peer)
    children.stop_all()
    return [times_table(options, peers, rounds), cpu_table(options, peers, rounds)]


def cpu_text(taken):
    return "" if taken.cpu_ms_per_megabyte is None else f"  {taken.cpu_ms_per_megabyte:7.2f} ms CPU per MB"


def turn(options, name, peer, port, shape, children, client):
    before = cpu_seconds(peer.process.pid) if peer else 0
    process = start_client(options, children, client, port, shape, options.seconds)
    said = wait_for_client(name, process, children, options.seconds + 60)
    cpu = None
    if peer:
        if peer.process.poll() is not None:
            sys.exit(f"{peer.name} died under load")
        cpu = (cpu_seconds(peer.process.pid) - before) * 1e3 / (said["bytes"] / 1e6)
    if said["failed"]:
        sys.exit(f"{name}: {said['failed']} of {said['failed'] + said['whole']} streams failed: {said['failures']}")
    return Turn(said["first_token_us"]["p50"], said["first_token_us"]["p99"], cpu)


def start_client(options, children, client, port, shape, seconds, name="client"):
    command = [client, "--address", f"127.0.0.1:{port}", "--path", f"/v1/chat/completions?{shape.query}",
               "--streams", shape.streams, "--ramp", shape.ramp, "--seconds", seconds]
    if options.http2:
        command += ["--http2", -(-shape.streams // STREAMS_PER_HTTP2_CONNECTION)]
    return children.start(name, options.cores[1], command)


def wait_for_client(name, process, children, timeout, client="client"):
    try:
        output = children.finish(client, process, timeout)
    except subprocess.TimeoutExpired:
        sys.exit(f"the streams through {name} did not end")
    if process.returncode != 0:
        sys.exit(f"the client failed against {name}: {output}")
    return json.loads(output.splitlines()[-1])


def median(rounds, figure):
    return statistics.median(figure(taken) for taken in rounds)


def times_table(options, peers, rounds):
    header = ["proxy"] + [f"{shape.name}, {quantile}" for shape in [ONE, MANY] for quantile in ["p50", "p99"]]
    rows = [["none: the time itself"]] + [[f"{peer.name} {peer.version}"] for peer in peers]
    for shape in [ONE, MANY]:
        for field in ["p50_us", "p99_us"]:
            def figure(taken, name):
                return getattr(taken[name, shape], field)
            rows[0].append(f"{median(rounds, lambda taken: figure(taken, DIRECT)) / 1000:.3f} ms")
            for row, peer in zip(rows[1:], peers):
                added = median(rounds, lambda taken: figure(taken, peer.name) - figure(taken, DIRECT))
                row.append(f"{added / 1000:+.3f} ms")
    return f"Added to the time to the first token. {caption(options)}", header, rows


def cpu_table(options, peers, rounds):
    shapes = [MANY, FAST]
    header = ["proxy", *(f"CPU per MB, {shape.name}" for shape in shapes)]
    rows = []
    for peer in peers:
        row = [f"{median(rounds, lambda taken: taken[peer.name, shape].cpu_ms_per_megabyte):.2f} ms"
               for shape in shapes]
        rows.append([f"{peer.name} {peer.version}", *row])
    return f"CPU per megabyte of streams. {caption(options)}", header, rows


def caption(options):
    protocol = "HTTP/2" if options.http2 else "HTTP/1.1"
    return (f"{machine()}; server-sent events, clients over {protocol}, one worker on one core, medians of "
            f"{options.rounds} interleaved rounds of {options.seconds} s.")


# --- the look into the streams ------------------------------------------------------------------------


def compare_tap(options, directory, children, client):
    """With it and without, each with half of the streams at the same time: what disturbs one disturbs the other."""
    words = start_agents(options, children)
    peers = [start_proxy(name, options, directory, children, words) for name in ["pointsman", UNTAPPED]]
    ratios = {shape.name: [] for shape in HALVES}
    for number in range(options.rounds):
        for shape in HALVES:
            costs = side_by_side(options, peers if number % 2 else peers[::-1], shape, children, client)
            ratio = costs["pointsman"] / costs[UNTAPPED]
            ratios[shape.name].append(ratio)
            say(f"round {number + 1}/{options.rounds}  {shape.name:<11}  CPU per MB with the tap against without "
                f"{ratio:.3f}")
    children.stop_all()
    header = ["streams", "CPU per MB with the tap against without", "from", "to"]
    rows = [[name, *(f"{figure:.3f}" for figure in [statistics.median(taken), min(taken), max(taken)])]
            for name, taken in ratios.items()]
    return f"The look into the streams, half of them with it and half without. {caption(options)}", header, rows


def side_by_side(options, peers, shape, children, client):
    """What a byte costs each of them, by its name."""
    before = [precise_cpu_seconds(peer.process.pid) for peer in peers]
    clients = [start_client(options, children, client, peer.port, shape, options.seconds, f"client-{peer.name}")
               for peer in peers]
    costs = {}
    said = [wait_for_client(peer.name, process, children, options.seconds + 60, f"client-{peer.name}")
            for peer, process in zip(peers, clients, strict=True)]
    for peer, begun, told in zip(peers, before, said, strict=True):
        if told["failed"]:
            sys.exit(f"{peer.name}: {told['failed']} streams failed: {told['failures']}")
        costs[peer.name] = (precise_cpu_seconds(peer.process.pid) - begun) / told["bytes"]
    return costs


# --- on the wire -------------------------------------------------------------------------------------


def compare_on_wire(options, directory, children, client):
    words = start_agents(options, children)
    agents = [int(words[name].rpartition(":")[2]) for name in ["STABLE_LISTEN", "CANARY_LISTEN"]]
    peers = start_proxies(options, directory, children, words)
    bare = None if options.http2 else start_proxy(BARE, options, directory, children, words)
    peers += [bare] if bare else []
    rounds = []
    for number in range(options.rounds):
        rounds.append({})
        first = number % len(peers)
        for shape in [ONE, MANY]:
            for peer in peers[first:] + peers[:first]:
                port = peer.http2_port if options.http2 else peer.port
                capture = wire.Capture(options, directory, children, port, agents)
                turn(options, peer.name, peer, port, shape, children, client)
                rounds[-1][peer.name, shape] = p50, p99 = wire.quantiles(capture.finish())
                say(f"round {number + 1}/{options.rounds}  {shape.name:<11}  {peer.name:<18} held p50 {p50:6.0f} µs  "
                    f"p99 {p99:6.0f} µs")
    children.stop_all()
    header = ["proxy"] + [f"{shape.name}, {quantile}" for shape in [ONE, MANY] for quantile in ["p50", "p99"]]
    rows = []
    for peer in peers:
        figures = [statistics.median(taken[peer.name, shape][rank] for taken in rounds)
                   for shape in [ONE, MANY] for rank in [0, 1]]
        rows.append([f"{peer.name} {peer.version}", *(f"{figure / 1000:.3f} ms" for figure in figures)])
    what = ("How long a proxy holds a request and its first token, together, from packet to packet on the loopback "
            f"interface. {caption(options)}")
    return what, header, rows


# --- memory ------------------------------------------------------------------------------------------


def compare_memory(options, directory, children, client, open_files):
    sides = 1 if options.http2 else 2
    allowed = (open_files - SPARE_FILES) // sides
    streams = min(options.concurrent, allowed)
    if streams < options.concurrent:
        say(f"The hard limit of open files is {open_files}, and {options.concurrent} streams through one process take "
            f"{options.concurrent * sides + SPARE_FILES}: MEASURING {streams}. Raise it (ulimit -Hn), or try --http2.")
    header = ["proxy", "streams at once", "whole", "failed", "memory before", "per stream", "CPU per MB"]
    rows = []
    for name in options.only:
        # All of them anew, so that none profits from, or pays for, what was before.
        words = start_agents(options, children)
        # Two for each stream; nginx begins to close new ones when a sixteenth of them is left.
        words["CONNECTIONS"] = 3 * streams
        if not options.http2:
            # HAProxy doubles it, and does not start where that is above the limit of open files.
            words["CLIENTS"] = streams + SPARE_FILES // 10
        peer = start_proxy(name, options, directory, children, words)
        if peer:
            rows.append(hold(options, peer, streams, children, client))
            say("  ".join(rows[-1]))
        children.stop_all()
    protocol = "HTTP/2" if options.http2 else "HTTP/1.1"
    what = (f"{streams} streams at once through one process, clients over {protocol}, an event a second each for "
            f"{options.hold} s, each stream held against its SHA-256. {machine()}.")
    return [(what, header, rows)]


def hold(options, peer, streams, children, client):
    # All must be open at the same time, well before the first ends.
    shape = Shape("held", streams, options.hold / 4, f"tokens={options.hold}&token_interval=1s")
    check_split(peer)
    memory, cpu = resident_bytes(peer.process.pid), cpu_seconds(peer.process.pid)
    port = peer.http2_port if options.http2 else peer.port
    process = start_client(options, children, client, port, shape, 0)
    held = None
    while process.poll() is None and held is None:
        if '"open"' in children.output("client"):
            time.sleep(SETTLING_SECONDS)
            held = resident_bytes(peer.process.pid)
        time.sleep(0.1)
    said = wait_for_client(peer.name, process, children, options.hold + 60)
    if peer.process.poll() is not None:
        sys.exit(f"{peer.name} died under load")
    if said["failed"]:
        say(f"{peer.name}: {said['failed']} streams failed, such as: {said['failures']}")
    per_stream = "n/a: never all open" if held is None else f"{(held - memory) / streams / 1024:.1f} KiB"
    cpu = (cpu_seconds(peer.process.pid) - cpu) * 1e3
    per_megabyte = f"{cpu / (said['bytes'] / 1e6):.1f} ms" if said["bytes"] else "n/a"
    return [f"{peer.name} {peer.version}", f"{said['most_open']:,}", f"{said['whole']:,}", f"{said['failed']:,}",
            f"{memory / 2**20:.1f} MiB", per_stream, per_megabyte]
