"""OpenAI's own client, before the mock agent's OpenAI-shaped answers."""

import asyncio

import httpx
import openai

from harness import PATIENCE, TOKENS, check, equal, raises

MESSAGES = [{"role": "user", "content": "three short words"}]
SPOKEN = "The points are set, the train may pass."


def client(proxy, kind=openai.OpenAI, **options):
    return kind(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE, **options)


def ask(client, **options):
    return client.chat.completions.create(model="m", messages=MESSAGES, **({"max_tokens": 8} | options))


def listen(stream):
    """What it says, its finish reasons, and its usage."""
    chunks = list(stream)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    text = "".join(choice.delta.content or "" for choice in choices)
    return text, [c.finish_reason for c in choices if c.finish_reason], chunks[-1].usage


@check("openai")
def completion(proxy):
    """a completion, its version and its usage"""
    with client(proxy) as c:
        answer = ask(c)
    equal((answer.choices[0].message.content, answer.system_fingerprint), (SPOKEN, "1.4.2"))
    equal((answer.usage.prompt_tokens, answer.usage.completion_tokens), (3, 8))


@check("openai")
def stream(proxy):
    """a stream, token by token, with its usage"""
    with client(proxy) as c, proxy.counts(1, "chat", outcome="success"):
        text, reasons, usage = listen(ask(c, stream=True, stream_options={"include_usage": True}))
    equal((text, reasons, usage.completion_tokens), (SPOKEN, ["length"], 8))


@check("openai")
def tokens(proxy):
    """the tokens of a completion and of a stream are counted"""
    told = {"stream_options": {"include_usage": True}}
    with client(proxy) as c, proxy.counts(6, "chat", metric=TOKENS, gen_ai_token_type="input"):
        with proxy.counts(16, "chat", metric=TOKENS, gen_ai_token_type="output"):
            ask(c)
            list(ask(c, stream=True, **told))


@check("openai")
def server_error(proxy):
    """the agent's own error and its status"""
    with client(proxy) as c, proxy.counts(1, "chat", outcome="server_error"):
        error = raises(openai.InternalServerError, lambda: ask(c, extra_query={"error_rate": "100%"}))
    equal((error.status_code, error.code), (500, "mock_failure"))


@check("openai")
def error_in_stream(proxy):
    """an error inside of a stream, after the tokens before it, and it is counted"""
    with client(proxy) as c, proxy.counts(1, "chat", outcome="stream_error"):
        error = raises(openai.APIError, lambda: listen(ask(c, stream=True, extra_query={"fault": "error"})))
    equal(error.code, "mock_failure")


@check("openai")
def cut_stream(proxy):
    """a stream that breaks off is an error to the client as well"""
    with client(proxy) as c, proxy.counts(1, "chat", outcome="truncated"):
        error = raises(Exception, lambda: listen(ask(c, stream=True, extra_query={"fault": "cut"})))
    assert "peer closed connection" in str(error) or isinstance(error, openai.APIConnectionError), repr(error)


@check("openai")
def unfinished_stream(proxy):
    """a stream that ends properly but too early: the client may not see it, the proxy does"""
    with client(proxy) as c, proxy.counts(1, "chat", outcome="truncated"):
        text, reasons, _ = listen(ask(c, stream=True, extra_query={"fault": "end"}))
    equal((text, reasons), (SPOKEN[: len("The points are set,")], []))


@check("openai")
def many_streams(proxy):
    """50 streams at once are all whole"""
    async def all_at_once():
        async with client(proxy, openai.AsyncOpenAI) as c:
            async def one():
                chunks = [chunk async for chunk in await ask(c, stream=True, max_tokens=16)]
                return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
            return await asyncio.gather(*(one() for _ in range(50)))

    with proxy.counts(50, "chat", outcome="success"):
        spoken = asyncio.run(all_at_once())
    equal(spoken, [SPOKEN * 2] * 50)


@check("openai")
def over_http2(proxy):
    """a stream over HTTP/2"""
    with client(proxy, http_client=httpx.Client(http1=False, http2=True, trust_env=False)) as c:
        text, reasons, _ = listen(ask(c, stream=True))
    equal((text, reasons), (SPOKEN, ["length"]))
