"""An attempt lets go of what it holds, whatever becomes of its books."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.types import Usage
from gateway.upstream.call import Call


def test_books_that_fail_keep_no_place_at_the_provider() -> None:
    """Neither the permit nor the connection of an answer that came whole is lost with it."""
    done: list[str] = []

    def settle(*_: object, **__: object) -> int:
        raise RuntimeError("no books")

    call = cast(Any, Call.__new__(Call))
    call.exchange = SimpleNamespace(
        caller_left=False,
        gateway=SimpleNamespace(ledger=SimpleNamespace(settle=settle), monotonic=lambda: 0.0),
    )
    call.started, call.attempt = 0.0, None
    call.stream = call.share = call.ttft_ms = None
    call._concluded = call._estimated = False
    call.completion = SimpleNamespace(usage=Usage(input=1), service_tier=None)
    call.response = SimpleNamespace(
        status=200, head=b"", lowered=b"", finish=lambda: done.append("finish"), abort=lambda: None
    )
    call.permit = SimpleNamespace(settle=lambda verdict, **_: done.append(verdict))
    with pytest.raises(RuntimeError, match="no books") as failed:
        call.complete()
    call.fail(failed.value)
    assert sorted(done) == ["finish", "success"]
