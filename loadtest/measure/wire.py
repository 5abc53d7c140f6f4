"""How long a proxy holds a stream's first token, and its request, by the packets on the loopback interface.

A client sees its own scheduling and the agent's in what it measures, and on a shared machine these are most of it. Here
the clock is the kernel's, when a packet is sent: from the client's request to the proxy's own, and from the agent's
first token to the proxy's. What lies between, at the agent, is not counted.
"""

import re
import shutil
import signal
import statistics
import struct
import sys
import time

from .children import say

SECONDS_TO_LISTEN = 10
# Enough for a request with all that proxies add, and for a head with the events that go with it.
SNAP_BYTES = 2048
BUFFER_KIB = 65536
# Acknowledgements have no payload.
LEAST_BYTES = 120

STREAM = re.compile(rb"stream-\d+-\d+")
FIRST_TOKEN = b'"delta":{"content":"The"}'

NANOSECOND_PCAP = 0xA1B23C4D
ETHERNET_BYTES = 14


def is_possible():
    if shutil.which("tcpdump"):
        return True
    say("the packets on the loopback interface: skipped, tcpdump is not installed (apt-get install tcpdump)")
    return False


class Capture:
    """Packets between a proxy at `port` and its clients, and between it and its agents."""

    def __init__(self, options, directory, children, port, agents):
        self.children, self.port, self.agents = children, port, agents
        self.path = directory / "wire.pcap"
        ports = " or ".join(f"port {port}" for port in [port, *agents])
        self.process = children.start("tcpdump", options.cores[1], [
            "tcpdump", "-i", "lo", "-n", "-s", SNAP_BYTES, "-B", BUFFER_KIB, "--time-stamp-precision", "nano",
            "-w", self.path, f"tcp and greater {LEAST_BYTES} and ({ports})"])
        deadline = time.monotonic() + SECONDS_TO_LISTEN
        while "listening on lo" not in children.output("tcpdump"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit("tcpdump does not capture (it must be root):\n" + children.output("tcpdump"))
            time.sleep(0.05)

    def finish(self):
        """For each stream that was seen whole, how long the proxy had its request and its first token, in µs."""
        # What the kernel still has for it.
        time.sleep(0.5)
        self.process.send_signal(signal.SIGINT)
        said = self.children.finish("tcpdump", self.process, 30)
        lost = int(re.search(r"(\d+) packets dropped by kernel", said)[1])
        if lost:
            say(f"tcpdump lost {lost} packets; the streams that they belong to are left out")
        return held(packets(self.path), self.port, self.agents)


def held(packets, port, agents):
    streams = {}
    for at, source, to, payload in packets:
        found = STREAM.search(payload)
        leg = found and leg_of(source, to, payload, port, agents)
        if leg is not None:
            streams.setdefault(found[0], {}).setdefault(leg, at)
    return [(legs[1] - legs[0] + legs[3] - legs[2]) / 1000 for legs in streams.values() if len(legs) == 4]


def leg_of(source, to, payload, port, agents):
    """Of its way: 0 and 1 the request, before and behind the proxy, 2 and 3 the first token."""
    if to == port:
        return 0
    if to in agents:
        return 1
    if FIRST_TOKEN not in payload:
        return None
    return 2 if source in agents else 3


def packets(path):
    """Time in ns, ports and payload of each packet of a file of tcpdump's (IPv4 over loopback)."""
    data = memoryview(path.read_bytes())
    [magic] = struct.unpack_from("=I", data)
    if magic != NANOSECOND_PCAP:
        sys.exit(f"{path} is no capture with nanoseconds")
    offset = 24
    while offset < len(data):
        seconds, nanoseconds, length, _ = struct.unpack_from("=IIII", data, offset)
        packet = data[offset + 16:offset + 16 + length]
        offset += 16 + length
        ip = packet[ETHERNET_BYTES:]
        tcp = ip[(ip[0] & 15) * 4:]
        source, to = struct.unpack_from("!HH", tcp)
        yield seconds * 10**9 + nanoseconds, source, to, bytes(tcp[(tcp[12] >> 4) * 4:])


def quantiles(times):
    if len(times) < 100:
        sys.exit(f"only {len(times)} streams were seen whole on the loopback interface")
    ranks = statistics.quantiles(times, n=100)
    return ranks[49], ranks[98]
