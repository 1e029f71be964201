"""Five hundred broken documents: each is taken whole or refused whole, in words."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gateway.catalog.source import CatalogSource

ENV = {"OPENAI_API_KEY": "sk-hidden-1", "ANTHROPIC_API_KEY": "sk-hidden-2"}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20).filter(lambda text: text.isprintable()),
    st.sampled_from(
        ["gpt-5-mini", "fast", "openai", "env:HOME", "file:/etc/shadow", "http://169.254.169.254", "healthy", "1.00"]
    ),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just({"balanced": {"cost": "x"}}),
    st.just({"region": [1]}),
    st.just({"a": {"b": {"c": [1, 2, 3]}}}),
)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every path within a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [below for key, inner in items for below in ((*path, key), *paths(inner, (*path, key)))]


@st.composite
def value_mutations(draw: st.DrawFn, base: dict[str, Any]) -> bytes:
    """The document with one to three values replaced, removed or renamed, as YAML of several lines."""
    changed = copy.deepcopy(base)
    for _ in range(draw(st.integers(1, 3))):
        if not changed:
            break
        *above, last = draw(st.sampled_from(paths(changed)))
        parent: Any = changed
        for step in above:
            parent = parent[step]
        how = draw(st.sampled_from(["replace", "remove", "rename", "repeat"]))
        if how == "remove":
            del parent[last]
        elif how == "rename" and isinstance(parent, dict):
            parent[f"{last}{draw(st.sampled_from('xé/@ '))}"] = parent.pop(last)
        elif how == "repeat" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[int(last)]))
        else:
            parent[last] = copy.deepcopy(draw(ODD))
    return msgspec.json.format(msgspec.json.encode(changed), indent=2)  # JSON is YAML


@st.composite
def text_mutations(draw: st.DrawFn, text: str) -> bytes:
    """The document with a piece cut out, put twice, or odd bytes put in."""
    start = draw(st.integers(0, len(text)))
    end = min(len(text), start + draw(st.integers(0, 40)))
    how = draw(st.sampled_from(["cut", "twice", "insert"]))
    if how == "insert":
        odd = draw(
            st.sampled_from([b"\x00", b"\xff", b"\t", b"!!int ", b"&a ", b"*a", b"<<: ", b"- ", b"{", b"]", b"\n"])
        )
        return text[:start].encode() + odd + text[start:].encode()
    middle = text[start:end] * 2 if how == "twice" else ""
    return (text[:start] + middle + text[end:]).encode()


@pytest.mark.parametrize("kind", ["values", "text"])
def test_a_broken_document_never_takes_partial_effect(document: str, tmp_path: Path, kind: str) -> None:
    """Whatever stands in the file: a new version in force, or the old one untouched and every problem with its line."""
    path = tmp_path / "catalog.yaml"
    path.write_text(document)
    source = CatalogSource(path, ENV, lambda: 1_795_219_200.0)
    base = YAML(typ="safe", pure=True).load(document)
    # YAML's dates are text to the catalog; the fixture has them unquoted.
    base = msgspec.json.decode(msgspec.json.encode(base))
    mutations = value_mutations(base) if kind == "values" else text_mutations(document)

    @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(mutations)
    def check(text: bytes) -> None:
        before = source.current
        path.write_bytes(text)
        if asyncio.run(source.reload()):
            assert source.problem is None
            assert source.current is not before
            assert all(tier.policy is not None for tier in source.current.tiers.values())
            return
        assert source.current is before
        assert source.problem
        for line in source.problem.splitlines():
            file, number, said = line.split(":", 2)
            assert file == str(path)
            assert 1 <= int(number) <= text.count(b"\n") + 1
            assert len(said) > 10
        assert "sk-hidden" not in source.problem

    check()
