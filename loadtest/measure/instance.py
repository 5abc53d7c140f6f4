"""One Pointsman before mock agents, and what it holds: memory, descriptors, threads, and the figures that it tells."""

import http.client
import os
import re
import statistics
import sys
import time
from dataclasses import dataclass

from .children import say

START_SECONDS = 15


# Runs when nobody else has anything to do on the core.
IDLE = ["chrt", "--idle", "0"]


def start_agent(children, options, name, *behaviour, prefix=()):
    """A mock agent that answers at once unless told otherwise; its address."""
    agent = children.start(name, options.cores[1], [
        *prefix, options.binary.resolve(), "mock-agent", "--address", "127.0.0.1:0", "--name", name,
        "--latency", "0s", "--jitter", "0s", *behaviour])
    found = wait_for(agent, children, name, rf"mock agent {re.escape(name)} on (http://\S+)")
    return found[0]


class Instance:
    """`pointsman run` with the file at `path`, whose ports are 0."""

    def __init__(self, children, options, path):
        self.children = children
        self.process = children.start("pointsman", options.cores[0], [
            options.binary.resolve(), "run", "--config", path, "--log-format", "json"])
        log = r'"message":"{}","address":"([^"]+)"'
        self.port = self.port_of(log.format("listening"))
        self.admin = self.port_of(log.format("admin side listening"))

    def stop(self):
        self.process.terminate()
        self.children.finish("pointsman", self.process, 60)

    def port_of(self, pattern):
        [address] = wait_for(self.process, self.children, "pointsman", pattern)
        return int(address.rpartition(":")[2])

    def metrics(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=20)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def metric(self, name, text=None):
        """The sum of the series of this name, whatever their labels."""
        lines = (text or self.metrics()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}(\{{| )", line))

    def resident_mib(self):
        status = self.proc("status")
        return int(re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[1]) / 1024

    def threads(self):
        return int(re.search(r"^Threads:\s+(\d+)", self.proc("status"), re.MULTILINE)[1])

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def proc(self, name):
        if self.process.poll() is not None:
            sys.exit("pointsman died:\n" + self.children.output("pointsman")[-4000:])
        with open(f"/proc/{self.process.pid}/{name}") as file:
            return file.read()

    def sample(self, begun):
        text = self.metrics()
        return Sample(time.monotonic() - begun, self.resident_mib(), self.descriptors(), self.threads(),
                      self.metric("pointsman_requests_in_flight", text),
                      self.metric("pointsman_client_connections_open", text),
                      sum(not line.startswith("#") for line in text.splitlines()))


def wait_for(process, children, name, pattern):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(pattern, children.output(name))
        if found:
            return found.groups()
        time.sleep(0.05)
    sys.exit(f"{name} did not start:\n{children.output(name)[-4000:]}")


@dataclass
class Sample:
    at: float
    resident_mib: float
    descriptors: int
    threads: int
    in_flight: float
    connections: float
    series: int


# What may not grow, and how much more than nothing the noise may be: (field, share, absolute).
FLAT = [("resident_mib", 0.05, 4.0), ("descriptors", 0.05, 16), ("threads", 0.0, 2),
        ("in_flight", 0.25, 16), ("connections", 0.25, 16), ("series", 0.05, 40)]


def trends(samples, warm_up):
    """Of each figure: its name, the medians of the first and the last third after `warm_up` seconds, whether it is flat.

    It is, where the last median is not above the first by more than the share of it and the absolute figure together.
    """
    samples = [sample for sample in samples if sample.at >= warm_up]
    third = len(samples) // 3
    if third < 3:
        sys.exit("too short a run to tell a trend")
    for field, share, absolute in FLAT:
        values = [getattr(sample, field) for sample in samples]
        first, last = statistics.median(values[:third]), statistics.median(values[-third:])
        yield field, first, max(values), last, last <= first * (1 + share) + absolute


def progress(sample):
    say(f"{sample.at:5.0f} s  {sample.resident_mib:6.1f} MiB  {sample.descriptors:5} descriptors  "
        f"{sample.threads:3} threads  {sample.in_flight:4.0f} in flight  {sample.connections:5.0f} connections  "
        f"{sample.series:5} series")
