"""Reading what a model made of a tiny request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.catalog.trial import PROBES, verdict

PROBE = {probe.name: probe for probe in PROBES}


def answered(**message: Any) -> bytes:
    return json.dumps({"choices": [{"message": message}]}).encode()


def called(arguments: str) -> bytes:
    return answered(tool_calls=[{"function": {"name": "note", "arguments": arguments}}])


@pytest.mark.parametrize(
    ("probe", "body", "wrong"),
    [
        ("plain", answered(content="ok"), None),
        ("plain", answered(content=None), "no text"),
        ("plain", b"[]", "no text"),
        ("plain", b"<html>", "no text"),
        ("plain", b'{"choices":[{"message":"ok"}]}', "no text"),
        ("stream", b'data: {"choices":[{"delta":{"content":"ok"}}]}\n\ndata: [DONE]\n\n', None),
        ("stream", b'data: {"choices":[{"delta":{"content":"ok"}}]}\n\n', "its end"),
        ("stream", b"data: [DONE]\n\n", "no text"),
        ("stream", b"", "its end"),
        ("tools", called('{"word": "ok"}'), None),
        ("tools", called("ok"), "their schema"),
        ("tools", answered(content="ok"), "did not call"),
        ("json_schema", answered(content='{"word": "ok"}'), None),
        ("json_schema", answered(content="ok"), "the schema"),
        ("json_schema", answered(content='{"word": 1}'), "the schema"),
        ("vision", answered(content="Red"), None),
    ],
)
def test_only_what_shows_the_capability_counts(probe: str, body: bytes, wrong: str | None) -> None:
    """Anything else is told in words."""
    said = verdict(PROBE[probe], 200, body)
    assert (said is None) if wrong is None else (wrong in str(said))


def test_a_refusal_is_told_with_its_words() -> None:
    """Status and message, whatever came."""
    assert verdict(PROBE["plain"], 400, b'{"error": {"message": "no"}}') == "400: no"
    assert verdict(PROBE["plain"], 502, b"<html>") == "status 502"
