"""CPU per request over HTTP/2, in cleartext and in TLS, with HTTP/1.1 to the upstreams."""

import re
import statistics
import sys
from dataclasses import dataclass

from . import certificates, load, requests
from .children import need, say
from .peers import check_split, start_proxies
from .report import machine, print_table

CONNECTIONS, STREAMS = 16, 8
SCHEMES = ["http", "https"]


@dataclass
class Turn:
    requests_per_second: float
    cpu_us: float
    errors: int


def compare(options, directory, children):
    need("h2load", "nginx", "taskset", "openssl")
    words = requests.start_upstreams(options, directory, children)
    certificates.make(directory)
    peers = start_proxies(options, directory, children, words)
    for peer in peers:
        check_split(peer)
        say(f"{peer.name}: {peer.version}")
        for scheme in SCHEMES:
            turns(options, [peer], scheme, 1, children)
    rounds = []
    for number in range(options.rounds):
        rounds.append({})
        for group in load.whose_turn(options, peers, number):
            for scheme in SCHEMES:
                for name, taken in turns(options, group, scheme, options.seconds, children).items():
                    rounds[-1][name, scheme] = taken
                    say(f"round {number + 1}/{options.rounds}  {name:<10} {scheme:<5} "
                        f"{taken.requests_per_second:7.0f} requests/s  {taken.cpu_us:5.2f} µs CPU  "
                        f"{taken.errors} errors")
    return lambda: report(options, peers, rounds)


def turns(options, peers, scheme, seconds, children):
    """By name, what each of these did at the same time."""
    def h2load(peer):
        port = peer.http2_port if scheme == "http" else peer.tls_port
        return ["h2load", "-t1", f"-c{CONNECTIONS}", f"-m{STREAMS}", f"-D{seconds}", "-H", "x-user-id: user-1",
                f"{scheme}://127.0.0.1:{port}/v1/chat"]
    done = load.put(options, peers, seconds, children, h2load)
    return {name: read(name, scheme, output, cpu, seconds) for name, (output, cpu) in done.items()}


def read(name, scheme, output, cpu, seconds):
    counts = re.search(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored",
                       output)
    protocol = re.search(r"Application protocol: (\S+)", output)
    if not counts or int(counts[2]) == 0:
        sys.exit(f"h2load failed against {name} ({scheme}): {output}")
    if not protocol or not protocol[1].startswith("h2"):
        sys.exit(f"{name} does not speak HTTP/2 ({scheme}): {output}")
    succeeded, errors = int(counts[2]), int(counts[3]) + int(counts[4])
    return Turn(succeeded / seconds, cpu * 1e6 / succeeded, errors)


def report(options, peers, rounds):
    header = ["proxy"]
    for name in ["cleartext", "TLS"]:
        header += [f"requests/s, {name}", f"CPU per request, {name}", "against nginx", "against Envoy"]
    rows = [row(peer, rounds) for peer in peers]
    if options.markdown:
        print(caption(options), end="\n\n")
    print_table([*header, "errors"], rows, options.markdown)
    if not options.markdown:
        print(caption(options))


def row(peer, rounds):
    cells = [f"{peer.name} {peer.version}"]
    for scheme in SCHEMES:
        turns = [taken[peer.name, scheme] for taken in rounds]
        cells.append(f"{statistics.median(taken.requests_per_second for taken in turns):,.0f}")
        cells.append(f"{statistics.median(taken.cpu_us for taken in turns):.1f} µs")
        for other in ["nginx", "envoy"]:
            ratios = [taken[peer.name, scheme].cpu_us / taken[other, scheme].cpu_us
                      for taken in rounds if (other, scheme) in taken]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "n/a")
    errors = sum(taken[peer.name, scheme].errors for taken in rounds for scheme in SCHEMES)
    return [*cells, str(errors)]


def caption(options):
    upstreams = "unix sockets" if options.unix else "TCP loopback"
    return (f"{machine()}; HTTP/2 in, HTTP/1.1 out; {CONNECTIONS} connections of {STREAMS} streams by h2load, one user; "
            f"TLS 1.3; upstreams on {upstreams}, {load.caption(options)}.")
