"""grpcio on both ends; messages are plain bytes, so that nothing needs to be generated."""

import contextlib
import time
from concurrent import futures

import grpc

from harness import PATIENCE, check, equal, raises, wait_until

MANY = 100
# Beyond what either side takes without being asked: windows have to be opened again.
LARGE = b"x" * 1_000_000
OPTIONS = [("grpc.max_receive_message_length", -1)]


def unary(request, context):
    context.send_initial_metadata([("x-first", "here")])
    context.set_trailing_metadata([("x-last", "there"), ("x-raw-bin", b"\x00\xff")])
    return request


def fails(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: ü, 100%")


def breaks(request, context):
    yield from [b"0", b"1", b"2"]
    context.abort(grpc.StatusCode.DATA_LOSS, "the rest is gone")


def stalls(request, context):
    yield b"0"
    while context.is_active():
        time.sleep(0.01)


def counts(request, context):
    yield from (str(number).encode() for number in range(int(request)))


def sums(requests, context):
    return str(sum(int(request) for request in requests)).encode()


def echoes(requests, context):
    yield from requests


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Fails": grpc.unary_unary_rpc_method_handler(fails),
    "Breaks": grpc.unary_stream_rpc_method_handler(breaks),
    "Stalls": grpc.unary_stream_rpc_method_handler(stalls),
    "Counts": grpc.unary_stream_rpc_method_handler(counts),
    "Sums": grpc.stream_unary_rpc_method_handler(sums),
    "Echoes": grpc.stream_stream_rpc_method_handler(echoes),
}


@contextlib.contextmanager
def server():
    """Serves `METHODS`; its port."""
    running = grpc.server(futures.ThreadPoolExecutor(32), options=OPTIONS)
    running.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Agent", METHODS)])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield port
    finally:
        running.stop(None).wait(PATIENCE)


def channel(proxy):
    return grpc.insecure_channel(proxy.address, options=[*OPTIONS, ("grpc.enable_http_proxy", 0)])


def code(error):
    return error.code(), error.details()


@check("grpc")
def answers(proxy):
    """a unary call with metadata before and behind its answer"""
    with channel(proxy) as c, proxy.counts(1, "grpc", outcome="success"):
        answer, call = c.unary_unary("/test.Agent/Unary").with_call(b"hello", timeout=PATIENCE)
        equal(answer, b"hello")
        first, last = dict(call.initial_metadata()), dict(call.trailing_metadata())
        equal((first["x-first"], last["x-last"], last["x-raw-bin"]), ("here", "there", b"\x00\xff"))
        equal(first["x-pointsman-version"], "3.0.0")


@check("grpc")
def statuses(proxy):
    """a status that is no success reaches the client, with its message"""
    with channel(proxy) as c:
        error = raises(grpc.RpcError, lambda: c.unary_unary("/test.Agent/Fails")(b"", timeout=PATIENCE))
        equal(code(error), (grpc.StatusCode.NOT_FOUND, "no such thing: ü, 100%"))
        error = raises(grpc.RpcError, lambda: c.unary_unary("/test.Agent/Nothing")(b"", timeout=PATIENCE))
        equal(error.code(), grpc.StatusCode.UNIMPLEMENTED)


@check("grpc")
def failures_count(proxy):
    """a status in the trailers behind answers that came well is the version's error"""
    with channel(proxy) as c:
        before = proxy.count("grpc", outcome="success"), proxy.count("grpc")
        call = c.unary_stream("/test.Agent/Breaks")(b"", timeout=PATIENCE)
        equal([next(call) for _ in range(3)], [b"0", b"1", b"2"])
        equal(code(raises(grpc.RpcError, next, call)), (grpc.StatusCode.DATA_LOSS, "the rest is gone"))
    wait_until("its count", lambda: proxy.count("grpc") > before[1])
    equal((proxy.count("grpc", outcome="success"), proxy.count("grpc")), (before[0], before[1] + 1))


@check("grpc")
def streams(proxy):
    """streams from the server, from the client, and both at once"""
    with channel(proxy) as c:
        numbers = [str(number).encode() for number in range(MANY)]
        equal(list(c.unary_stream("/test.Agent/Counts")(str(MANY).encode(), timeout=PATIENCE)), numbers)
        equal(c.stream_unary("/test.Agent/Sums")(iter(numbers), timeout=PATIENCE), b"4950")
        equal(list(c.stream_stream("/test.Agent/Echoes")(iter(numbers), timeout=PATIENCE)), numbers)


@check("grpc")
def conversation(proxy):
    """each message is answered before the next is sent"""
    with channel(proxy) as c:
        heard = []

        def next_message():
            for number in range(10):
                wait_until("the answer before", lambda: len(heard) == number)
                yield str(number).encode()

        for message in c.stream_stream("/test.Agent/Echoes")(next_message(), timeout=PATIENCE):
            heard.append(message)
        equal(heard, [str(number).encode() for number in range(10)])


@check("grpc")
def large(proxy):
    """a message of a megabyte in each direction, twenty at once"""
    with channel(proxy) as c:
        calls = [c.unary_unary("/test.Agent/Unary").future(LARGE, timeout=PATIENCE) for _ in range(20)]
        assert all(call.result() == LARGE for call in calls), "altered"


@check("grpc")
def cancelled(proxy):
    """a call that the client cancels ends at the server, and is not held against the version"""
    with channel(proxy) as c, proxy.counts(1, "grpc", outcome="client_cancel"):
        call = c.unary_stream("/test.Agent/Stalls")(b"", timeout=PATIENCE)
        equal(next(call), b"0")
        call.cancel()


@check("grpc")
def overdue(proxy):
    """a call ends at its deadline"""
    with channel(proxy) as c:
        call = c.unary_stream("/test.Agent/Stalls")(b"", timeout=0.5)
        equal(next(call), b"0")
        equal(raises(grpc.RpcError, next, call).code(), grpc.StatusCode.DEADLINE_EXCEEDED)
