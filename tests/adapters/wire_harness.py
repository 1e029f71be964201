"""Recorded provider traffic driven through an adapter, without HTTP: what goes upstream, what comes out.

The folder of recordings is named by TIERGATE_WIRE or lies beside the repository (`../shared/wire`), its checking tools
beside it (`tools`). Where it is absent there are no exchanges, and the tests over it have no cases.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tomllib
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from adapters.base import Adapter, ChatStream, Stamp
from gateway.chat import Chat, parse_chat
from gateway.errors import CallerError, UpstreamError
from gateway.types import Deployment, Model, Provider, Secret, Usage

ROOT = Path(__file__).resolve().parents[2]
WIRE = Path(os.environ.get("TIERGATE_WIRE") or ROOT.parent / "shared" / "wire")
STAMP = Stamp("req_0123456789", 1_790_000_000)
CHUNKINGS = ("event", "whole", "byte", "random", "split", "crlf", "lf", "nospace", "comments")
"""Ways of cutting a body, as `tools/replay.py` names them."""


@cache
def tool(name: str) -> ModuleType:
    """A module of the recordings' tools folder."""
    spec = importlib.util.spec_from_file_location(f"wire_tools_{name}", WIRE.parent / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


def exchange_ids(provider: str, *apis: str) -> list[str]:
    """The recorded exchanges of a provider's APIs, e.g. `anthropic/001-…`; none where the recordings are absent."""
    return [
        f"{provider}/{path.stem}"
        for path in sorted((WIRE / provider).glob("*.json"))
        if json.loads(path.read_bytes())["api"] in apis
    ]


def exchange(ident: str) -> dict[str, Any]:
    """One recorded exchange."""
    loaded: dict[str, Any] = json.loads((WIRE / f"{ident}.json").read_bytes())
    return loaded


@cache
def _exceptions() -> dict[str, dict[str, Any]]:
    return tomllib.loads((ROOT / "tests" / "wire_exceptions.toml").read_text())


def unexpected(ident: str, complaints: list[str]) -> list[str]:
    """The complaints that `wire_exceptions.toml` does not explain, and those that it promises in vain."""
    entry = _exceptions().get(ident)
    if entry is None:
        return complaints
    allowed: list[str] = entry["complaints"]
    left = [text for text in complaints if not any(text.startswith(start) for start in allowed)]
    unseen = [start for start in allowed if not any(text.startswith(start) for text in complaints)]
    return left + [f"an exception that is no longer needed: {start}" for start in unseen]


def deployment_of(adapter: Adapter, upstream_id: str = "the-model", **params: Any) -> Deployment:
    """A deployment of a model at this adapter's provider."""
    base_url = adapter.default_base_url or "https://provider.example/v1"
    provider = Provider(adapter.name, adapter.name, base_url, Secret("the-key"))
    model = Model(upstream_id, upstream_id, "enabled", 0, None, None)
    return Deployment(f"{adapter.name}/{upstream_id}", provider, model, upstream_id, params=params)


def replayed(stream: ChatStream, pieces: list[bytes]) -> bytes:
    """What a caller gets of a stream that arrives in these pieces, as the relay drives it."""
    out = b""
    for piece in pieces:
        out += stream.feed(piece)
        if stream.failure is not None:
            return out
    if stream.usage is None:
        stream.usage = Usage()  # the relay's estimate
    return out + stream.end()


def request_complaints(adapter: Adapter, recorded: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the upstream request made of the recorded one, after the way of `tools/run_wire.py`."""
    request = _derived(recorded)
    if request is None:
        return
    try:
        sent = json.loads(adapter.request(parse_chat(json.dumps(request).encode()), deployment_of(adapter)))
    except CallerError as error:
        yield f"request: refused: {error.message} ({error.param})"
        return
    api, url, provider = recorded["api"], recorded["url"], recorded["provider"]
    if api != "openai.chat" or provider == "openai":
        own = set(tool("check_native").check(api, url, recorded["request_body"]))
        yield from (f"native: {text}" for text in tool("check_native").check(api, url, sent) if text not in own)
    back, why = tool("to_openai").convert(api, url, sent, provider)
    if back is None:
        yield f"request: cannot be read back: {why}"
        return
    if api.startswith("gemini"):  # streaming stands in the URL
        back["stream"] = bool(request.get("stream"))
    compare = tool("compare")
    for text in compare.diff(compare.canon({**request, "model": ""}), compare.canon({**back, "model": ""})):
        if not (text.startswith("max_tokens: null") and api == "anthropic.messages"):
            yield f"request: {text}"


def answer_complaints(adapter: Adapter, recorded: dict[str, Any], chunking: str) -> Iterator[str]:
    """What is wrong with the answer made of the recorded one, cut in this way."""
    request = _derived(recorded) or {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
    request["stream"] = recorded["streaming"]
    if request["stream"]:
        request["stream_options"] = {"include_usage": True}
    pieces: list[bytes] = tool("replay").pieces(recorded, chunking)
    features = set(recorded["features"])
    if recorded["response_status"] != 200:
        headers = {name.lower(): value for name, value in recorded["response_headers"].items()}
        error = adapter.error(recorded["response_status"], headers, b"".join(pieces))
        yield from _error_complaints(error)
        return
    try:
        chat = parse_chat(json.dumps(request).encode())
        if recorded["streaming"]:
            yield from _stream_complaints(adapter, chat, recorded, pieces, features)
        else:
            yield from _completion_complaints(adapter, chat, recorded, b"".join(pieces), features)
    except UpstreamError as error:
        if "error_in_200" not in features:
            yield f"answer: refused: {error.message}"
        yield from _error_complaints(error)


def _derived(recorded: dict[str, Any]) -> dict[str, Any] | None:
    request, _ = tool("to_openai").convert(
        recorded["api"], recorded["url"], recorded["request_body"], recorded["provider"]
    )
    if request is None or (bool(request.get("stream")) != recorded["streaming"] and recorded["response_status"] == 200):
        return None
    derived: dict[str, Any] = request
    return {**derived, "model": "m"}


def _asked(chat: Chat, recorded: dict[str, Any]) -> dict[str, Any]:
    """What the answer is checked against. A forced call may finish with `stop` only where OpenAI's dialect says so."""
    body = msgspec.json.decode(chat.encode({}))
    return body if recorded["api"] == "openai.chat" else {**body, "tool_choice": None}


def _error_complaints(error: UpstreamError) -> Iterator[str]:
    report = tool("validate_openai").check_error(error.envelope("req_1"))
    yield from (f"shape: {text}" for text in report.errors)


def _stream_complaints(
    adapter: Adapter, chat: Chat, recorded: dict[str, Any], pieces: list[bytes], features: set[str]
) -> Iterator[str]:
    stream = adapter.stream(chat, STAMP)
    out = replayed(stream, pieces)
    if features & {"error_in_stream", "truncated_stream"}:
        if stream.failure is None:
            yield "stream-error: the failure is hidden"
        if b"[DONE]" in out:
            yield "stream-error: [DONE] after a failure"
        return
    if stream.failure is not None:
        yield f"answer: the stream failed: {stream.failure.message}"
        return
    report = tool("validate_openai").check_stream(out, _asked(chat, recorded))
    yield from (f"shape: {text}" for text in report.errors)
    yield from _meaning(recorded, out.decode(), "text")


def _completion_complaints(
    adapter: Adapter, chat: Chat, recorded: dict[str, Any], body: bytes, features: set[str]
) -> Iterator[str]:
    made = json.loads(adapter.completion(body, chat, STAMP).body)
    if "error_in_200" in features:
        yield "answer: an error under status 200 passes for an answer"
    report = tool("validate_openai").check_chat(made, _asked(chat, recorded))
    yield from (f"shape: {text}" for text in report.errors)
    yield from _meaning(recorded, made, "json")


def _meaning(recorded: dict[str, Any], made: Any, encoding: str) -> Iterator[str]:
    compare = tool("compare")
    want = compare.summarise(recorded["api"], recorded["response_body"], recorded["response_encoding"])
    got = compare.summarise("openai.chat", made, encoding)
    yield from (f"answer: {text}" for text in compare.compare_answers(want, got))
