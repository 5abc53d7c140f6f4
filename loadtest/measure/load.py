"""The same load on one proxy, or on several at the same time."""

import subprocess
import sys

from .children import cpu_seconds


def whose_turn(options, peers, number):
    """The groups of a round, one after the other: each proxy alone, or all of them at once."""
    first = number % len(peers)
    order = peers[first:] + peers[:first]
    return [order] if options.together else [[peer] for peer in order]


def put(options, peers, seconds, children, command):
    """Runs `command(peer)` for each of these at the same time. By name: what it printed, and the proxy's CPU seconds."""
    before = {peer.name: cpu_seconds(peer.process.pid) for peer in peers}
    loads = {peer.name: children.start(f"load-{peer.name}", options.cores[1], command(peer)) for peer in peers}
    outputs = {name: finish(name, load, seconds, children) for name, load in loads.items()}
    after = {peer.name: cpu_seconds(peer.process.pid) for peer in peers}
    for peer in peers:
        if peer.process.poll() is not None:
            sys.exit(f"{peer.name} died under load")
    return {name: (output, after[name] - before[name]) for name, output in outputs.items()}


def finish(name, load, seconds, children):
    try:
        output = children.finish(f"load-{name}", load, seconds + 30)
    except subprocess.TimeoutExpired:
        sys.exit(f"the load on {name} did not end")
    if load.returncode != 0:
        sys.exit(f"the load on {name} failed: {output}")
    return output


def caption(options):
    """How the rounds were."""
    how = "all proxies at the same time on the one core" if options.together else "interleaved"
    return f"medians of {options.rounds} rounds of {options.seconds} s, {how}"
