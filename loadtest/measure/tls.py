"""TLS towards clients: CPU per handshake, full and resumed, and per request on kept connections."""

import json
import statistics
import sys
from dataclasses import dataclass

from . import certificates, load, requests
from .children import need, say
from .peers import HERE, check_split, start_proxies
from .report import machine, print_table

MODES = ["plain", "full", "resumed"]


@dataclass
class Turn:
    """CPU, in microseconds."""
    per_connection: dict
    """By mode: a new connection with one request on it."""
    per_request: float
    """On kept connections with TLS."""
    errors: int

    def handshake(self, mode):
        return self.per_connection[mode] - self.per_connection["plain"]


def compare(options, directory, children):
    need("wrk", "nginx", "taskset", "openssl")
    words = requests.start_upstreams(options, directory, children)
    certificate = certificates.make(directory)
    peers = start_proxies(options, directory, children, words)
    for peer in peers:
        check_split(peer)
        said = connections(options, peer, "full", 1, children, certificate)[1]
        say(f"{peer.name}: {peer.version}; {said['cipher']}")
    rounds = []
    for number in range(options.rounds):
        first = number % len(peers)
        rounds.append({})
        for peer in peers[first:] + peers[:first]:
            rounds[-1][peer.name] = taken = turn(options, peer, children, certificate)
            say(f"round {number + 1}/{options.rounds}  {peer.name:<10} full {taken.handshake('full'):6.1f} µs  resumed "
                f"{taken.handshake('resumed'):6.1f} µs  request {taken.per_request:5.2f} µs  {taken.errors} errors")
    return lambda: report(options, peers, rounds)


def turn(options, peer, children, certificate):
    """One proxy, all modes."""
    per_connection, errors = {}, 0
    for mode in MODES:
        per_connection[mode], said = connections(options, peer, mode, options.seconds, children, certificate)
        errors += said["errors"]
        if mode == "resumed" and said["resumed"] < 0.99 * said["connections"]:
            sys.exit(f"{peer.name} resumed {said['resumed']} of {said['connections']} sessions only")
    url = f"https://127.0.0.1:{peer.tls_port}/"
    kept = requests.turns(options, [peer], options.seconds, children, lambda _: url)[peer.name]
    return Turn(per_connection, kept.cpu_us, errors + kept.errors)


def connections(options, peer, mode, seconds, children, certificate):
    """CPU of the proxy for each, and what the client says."""
    port = peer.port if mode == "plain" else peer.tls_port
    output, cpu = load.put(options, [peer], seconds, children, lambda _: [
        sys.executable, HERE / "measure/handshakes.py", port, seconds, mode, certificate])[peer.name]
    said = json.loads(output.splitlines()[-1])
    if said["errors"] == said["connections"]:
        sys.exit(f"{peer.name} answered on no connection ({mode})")
    return cpu * 1e6 / said["connections"], said


def report(options, peers, rounds):
    header = ["proxy", "CPU per full handshake", "against nginx", "CPU per resumed one", "against nginx",
              "new connections/s of a core", "CPU per request, kept", "against nginx", "errors"]
    rows = [row(peer, rounds) for peer in peers]
    if options.markdown:
        print(caption(options), end="\n\n")
    print_table(header, rows, options.markdown)
    if not options.markdown:
        print(caption(options))


def row(peer, rounds):
    turns = [taken[peer.name] for taken in rounds]

    def cells(figure):
        ratios = [figure(taken[peer.name]) / figure(taken["nginx"]) for taken in rounds if "nginx" in taken]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "n/a"
        return [f"{statistics.median(map(figure, turns)):.1f} µs", ratio]

    capacity = 1e6 / statistics.median(taken.per_connection["full"] for taken in turns)
    return [f"{peer.name} {peer.version}", *cells(lambda taken: taken.handshake("full")),
            *cells(lambda taken: taken.handshake("resumed")), f"{capacity:,.0f}",
            *cells(lambda taken: taken.per_request), str(sum(taken.errors for taken in turns))]


def caption(options):
    return (f"{machine()}; TLS 1.3, ECDSA P-256, X25519; a handshake is what a new connection with one request costs "
            "more than the same without TLS, new connections/s are of full handshakes with that request; "
            f"{options.connections} kept-alive connections, medians of {options.rounds} interleaved rounds of "
            f"{options.seconds} s for each figure.")
