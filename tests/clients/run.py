"""Real clients through the real binary: curl, and those of requirements.txt, and h2load.

  python tests/clients/run.py BINARY [GROUP...]

Starts BINARY as the proxy and as the mock agent, and the servers of the other protocols in this process, all on free
ports of loopback, and sends each group's clients through. Says what failed and how many checks ran; a group that ran
another number of checks than it has here has failed. `tests/run clients` is the way to run it.
"""

import contextlib
import pathlib
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True

from harness import CHECKS, Proxy
import with_curl
import with_grpc
import with_h2load
import with_httpx
import with_openai
import with_websockets

# A check that is not found must not pass for one that passed.
GROUPS = {"curl": 12, "openai": 9, "httpx": 7, "h2load": 3, "websockets": 9, "grpc": 8}


def main():
    binary, *wanted = sys.argv[1:]
    unknown = [group for group in wanted if group not in GROUPS]
    if unknown:
        sys.exit(f"no such group: {', '.join(unknown)}; there are: {', '.join(GROUPS)}")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pointsman-clients-"))
        websockets = stack.enter_context(with_websockets.Server())
        grpc = stack.enter_context(with_grpc.server())
        proxy = Proxy(pathlib.Path(binary).resolve(), pathlib.Path(directory), websockets, grpc)
        with proxy:
            failed = [group for group in wanted or GROUPS if not passes(group, proxy)]
        failed += proxy.complaints
    if failed:
        sys.exit(f"FAILED: {', '.join(failed)}")


def passes(group, proxy):
    ran, failed = 0, 0
    for check in CHECKS[group]:
        began = time.monotonic()
        ran += 1
        try:
            check(proxy)
            print(f"ok      {group}: {check.__doc__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {group}: {check.__doc__}\n{traceback.format_exc()}", flush=True)
    print(f"{group}: {ran - failed} of {GROUPS[group]} checks passed", flush=True)
    return failed == 0 and ran == GROUPS[group]


if __name__ == "__main__":
    main()
