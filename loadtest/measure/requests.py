"""CPU per request, by wrk's plain requests over kept-alive connections."""

import json
import statistics
import sys
from dataclasses import dataclass

from . import load
from .children import free_port, need, say
from .peers import HERE, PROBED_USERS, REQUESTS, address_words, check_split, fill, start_proxies
from .report import machine, print_table


def compare(options, directory, children):
    need("wrk", "nginx", "taskset")
    words = start_upstreams(options, directory, children)
    peers = start_proxies(options, directory, children, words)
    for peer in peers:
        share = check_split(peer)
        say(f"{peer.name}: {peer.version}; {share:.1%} of {PROBED_USERS} users get the canary")
    rounds = measure(options, peers, children)
    for peer in peers:
        check_split(peer)
    return lambda: report(options, peers, rounds)


def start_upstreams(options, directory, children):
    """The two versions, by nginx; the words that their addresses are in the proxies' configurations."""
    words = dict(REQUESTS)
    for version in ["STABLE", "CANARY"]:
        words |= address_words(version, directory / f"{version.lower()}.sock" if options.unix else free_port())
    upstreams = fill("upstreams.conf", directory, words | {"DIR": directory})
    children.start("upstreams", options.cores[1], ["nginx", "-c", upstreams, "-e", "stderr"])
    return words


@dataclass
class Turn:
    requests_per_second: float
    cpu_us: float
    p50_us: float
    p99_us: float
    errors: int


def measure(options, peers, children):
    """By round, each proxy's turn under its name."""
    for peer in peers:
        turns(options, [peer], 1, children)  # warms caches, pools and branch predictors
    if options.pid_file:
        options.pid_file.write_text("".join(f"{peer.name} {peer.process.pid}\n" for peer in peers))
    rounds = []
    for number in range(options.rounds):
        rounds.append({})
        for group in load.whose_turn(options, peers, number):
            for name, taken in turns(options, group, options.seconds, children).items():
                rounds[-1][name] = taken
                say(f"round {number + 1}/{options.rounds}  {name:<10} {taken.requests_per_second:7.0f} requests/s  "
                    f"{taken.cpu_us:5.2f} µs CPU  p50 {taken.p50_us:5.0f} µs  p99 {taken.p99_us:5.0f} µs  "
                    f"{taken.errors} errors")
    return rounds


def turns(options, peers, seconds, children, url=lambda peer: f"http://127.0.0.1:{peer.port}/"):
    """By name, what each of these did at the same time."""
    done = load.put(options, peers, seconds, children, lambda peer: [
        "wrk", "-t1", f"-c{options.connections}", f"-d{seconds}s", "-s", HERE / "peers/users.lua", url(peer)])
    return {name: read(name, output, cpu) for name, (output, cpu) in done.items()}


def read(name, output, cpu):
    figures = json.loads(output.splitlines()[-1])
    requests = figures["requests"]
    if requests == 0:
        sys.exit(f"{name} answered no request")
    return Turn(requests * 1e6 / figures["duration_us"], cpu * 1e6 / requests, figures["p50_us"], figures["p99_us"],
                figures["errors"])


def report(options, peers, rounds):
    header = ["proxy", "requests/s", "CPU per request", "against nginx", "p50", "p99", "errors"]
    rows = [row(peer, rounds) for peer in peers]
    if options.markdown:
        print(caption(options), end="\n\n")
    print_table(header, rows, options.markdown)
    if not options.markdown:
        print(caption(options))


def row(peer, rounds):
    turns = [taken[peer.name] for taken in rounds]

    def median(field):
        return statistics.median(getattr(taken, field) for taken in turns)

    ratios = [taken[peer.name].cpu_us / taken["nginx"].cpu_us for taken in rounds if "nginx" in taken]
    ratio = f"{statistics.median(ratios):.2f}" if ratios else "n/a"
    return [f"{peer.name} {peer.version}", f"{median('requests_per_second'):,.0f}", f"{median('cpu_us'):.1f} µs", ratio,
            f"{median('p50_us') / 1000:.2f} ms", f"{median('p99_us') / 1000:.2f} ms",
            str(sum(taken.errors for taken in turns))]


def caption(options):
    upstreams = "unix sockets" if options.unix else "TCP loopback"
    return (f"{machine()}; {options.connections} kept-alive connections, upstreams on {upstreams}, "
            f"{load.caption(options)}.")
