"""The processes that take part, and what /proc says of them."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

STOP_SECONDS = 3
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Children:
    """Every process that was started. Leaving the block kills all of them with all of theirs."""

    def __init__(self, directory):
        self.directory = directory
        self.processes = []

    def __enter__(self):
        return self

    def start(self, name, core, command):
        """Its own process group, so that the whole tree can be killed; pinned, which its threads inherit."""
        with open(self.directory / f"{name}.out", "wb") as output:
            process = subprocess.Popen(["taskset", "-c", core, *map(str, command)], start_new_session=True,
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def finish(self, name, process, timeout):
        """Waits for one that ends by itself; its output."""
        process.wait(timeout)
        # Its number may be another's from now on, and must not be killed at the end.
        self.processes.remove(process)
        return self.output(name)

    def output(self, name):
        return (self.directory / f"{name}.out").read_text(errors="replace")

    def __exit__(self, *_):
        # A second Ctrl-C must not leave half of them running.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.stop_all()

    def stop_all(self):
        # First politely, so that those with workers of their own reap them; then whoever is still there.
        self.signal_all(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self.signal_all(signal.SIGKILL)
        for process in self.processes:
            process.wait()
        self.processes.clear()

    def signal_all(self, number):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)


def cpu_seconds(root):
    """User and system time so far of a process and all its descendants."""
    return sum(int(fields[11]) + int(fields[12]) for fields in family(root)) / TICKS_PER_SECOND


def precise_cpu_seconds(process):
    """Time on a core so far of all threads of one process; those that have ended are not counted."""
    threads = pathlib.Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def resident_bytes(root):
    """Resident memory of a process and all its descendants; what they share counts for each."""
    return sum(int(fields[21]) for fields in family(root)) * resource.getpagesize()


def family(root):
    """/proc/PID/stat, from the state on, of a process and all its descendants."""
    everyone = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name in parentheses may hold anything; the numbers begin behind its end.
            everyone[int(entry)] = pathlib.Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
    members, frontier = set(), {root}
    while frontier:
        members |= frontier
        frontier = {pid for pid, fields in everyone.items() if int(fields[1]) in frontier}
    return [everyone[pid] for pid in members if pid in everyone]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def need(*programs):
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)} (Debian: apt-get install wrk nginx-light util-linux)")


def allow_open_files():
    """Raises the limit of open files for all children as far as it goes; what it is then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def say(text):
    print(text, file=sys.stderr, flush=True)
