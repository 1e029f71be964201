"""Request ids: two processes never make the same, whatever is seeded."""

from __future__ import annotations

from pathlib import Path

from running import running_gateway
from talk import chat


def test_a_seed_does_not_repeat_request_ids(tmp_path: Path) -> None:
    """The seed makes routing reproducible; ids that repeat would make two costs count as one."""
    seen = set()
    for run in ("first", "second"):
        with running_gateway(tmp_path / run, env={"TIERGATE_SEED": "7"}) as gateway:
            answers = [chat(gateway, "fast") for _ in range(3)]
        seen |= {answer.headers["x-gateway-request-id"].removeprefix("req_")[12:] for answer in answers}
    assert len(seen) == 6
