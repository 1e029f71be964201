"""The names most like one that there is not."""

from __future__ import annotations

import time

import pytest

from gateway.catalog.nearest import Nearest

NAMES = ["fast", "smart", "gpt-4o", "gpt-4o-mini", "claude-haiku-5-5", "claude-opus-5-5", "x", "Qwen3-Coder"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        *[
            ("fsat", "fast"),
            ("smrat", "smart"),
            ("gpt4o", "gpt-4o"),
            ("claude-haiku", "claude-haiku-5-5"),
            ("fast", "fast"),
        ],
        ("claude-haiku-5.5", "claude-haiku-5-5"),
        ("FAST", "fast"),
        ("GPT-4o", "gpt-4o"),
        ("qwen3-coder", "Qwen3-Coder"),
    ],
)
def test_a_slip_finds_what_was_meant(name: str, nearest: str) -> None:
    """Letters swapped, left out or of another case, or another sign between."""
    assert Nearest(NAMES).find(name, 3)[0] == nearest


@pytest.mark.parametrize("name", ["", "zzz", "\0", "ÄÖÜ" * 1000])
def test_what_is_like_nothing_finds_nothing(name: str) -> None:
    """However long it is."""
    assert Nearest(NAMES).find(name, 3) == []


def test_no_search_takes_long() -> None:
    """Of 20,000 names that are all alike: comparing with each would take a quarter of a second."""
    index = Nearest(f"provider-{n % 20}/model-number-{n}" for n in range(20_000))
    began = time.process_time()
    for n in range(20):
        assert index.find(f"model-nubmer-{n}", 3)
    assert time.process_time() - began < 0.5
