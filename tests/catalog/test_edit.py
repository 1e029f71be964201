"""Changing the document: only what is concerned, every comment kept, nothing written that was not meant."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalog.document import parse_document
from gateway.catalog.edit import Change, Cut, Put, edit
from gateway.errors import CatalogError

TEXT = """\
# Kept by hand.
providers:
  one: {adapter: openai, base_url: https://one.example/v1}   # the first
models:
  # ---- small ones
  alpha:                     # alpha's comment
    display_name: Alpha
    capabilities: [text_input,
      text_output]
    prices:
      # old
      - from: 2026-01-01
        usd_per_mtok: {input: "1.00", output: "4.00"}   # as agreed
    deployments:
      - {provider: one, id: alpha-1}

  # ---- the next
  beta:
    capabilities: [text_input, text_output]
    deployments: [{provider: one, id: beta-1}]

# What apps ask for.
tiers:
  fast: {models: [alpha]}
"""


def lines(*changes: Change, text: str = TEXT) -> list[str]:
    """The lines that the edit takes away (-) and adds (+)."""
    after = edit(text.encode(), changes).decode()
    compared = difflib.ndiff(text.splitlines(), after.splitlines())
    return [line for line in compared if line[:2] in ("- ", "+ ")]


@pytest.mark.parametrize(
    ("changes", "changed"),
    [
        ([Put(("models", "alpha", "status"), "disabled")], ["+     status: disabled"]),
        (
            [Put(("models", "alpha", "display_name"), "Alpha: one")],
            ["-     display_name: Alpha", "+     display_name: 'Alpha: one'"],
        ),
        ([Cut(("models", "alpha", "display_name"))], ["-     display_name: Alpha"]),
        (
            [Put(("models", "alpha", "deployments", 1), {"provider": "one", "id": "alpha-2"})],
            ["+       - {provider: one, id: alpha-2}"],
        ),
        (
            [
                Put(
                    ("models", "alpha", "prices", 1),
                    {"from": "2027-01-01", "usd_per_mtok": {"input": "2", "output": "3"}},
                )
            ],
            ["+       - from: 2027-01-01", '+         usd_per_mtok: {input: "2", output: "3"}'],
        ),
        (
            [Put(("providers", "one", "defaults", "text"), "alpha")],
            [
                "-   one: {adapter: openai, base_url: https://one.example/v1}   # the first",
                "+   one: {adapter: openai, base_url: https://one.example/v1, defaults: {text: alpha}} # the first",
            ],
        ),
        (
            [
                Put(
                    ("models", "gamma"),
                    {"capabilities": ["text_input"], "deployments": [{"provider": "one", "id": "g"}]},
                )
            ],
            [
                "+ ",
                "+   gamma:",
                "+     capabilities: [text_input]",
                "+     deployments:",
                "+       - {provider: one, id: g}",
            ],
        ),
        ([Put(("models", "alpha", "display_name"), "Alpha")], []),
        ([Cut(("models", "alpha", "reason"))], []),
    ],
    ids=["new field", "changed field", "cut", "deployment", "price", "flow entry", "new model", "the same", "nothing"],
)
def test_only_the_lines_concerned_change(changes: list[Change], changed: list[str]) -> None:
    """Everything else stays byte for byte, comments and folded lists included."""
    assert sorted(lines(*changes)) == sorted(changed)


def test_comments_beside_what_changes_are_kept() -> None:
    """Also where the whole entry has to be written anew."""
    after = edit(TEXT.encode(), [Put(("models", "beta", "deployments", 0, "weight"), 3)]).decode()
    for comment in ("# Kept by hand.", "# ---- the next", "# What apps ask for.", "# as agreed", "# alpha's comment"):
        assert comment in after


@pytest.mark.parametrize(
    "text",
    [
        "{providers: {one: {adapter: openai}}, models: {alpha: {capabilities: [text_input]}}}\n",
        "providers: {}\nmodels: {alpha: {capabilities: [text_input]}, beta: {capabilities: []}}\n",
        'providers: {}\nmodels:\n    "alpha":\n        capabilities:\n        - text_input',
        "models:\n  alpha:\n    capabilities: [text_input]\n    guidance:\n      tips:\n        - >\n          long\n",
    ],
    ids=["one line", "flow section", "no newline at the end", "folded text"],
)
@pytest.mark.parametrize(
    "change", [Put(("models", "alpha", "status"), "disabled"), Put(("models", "gamma"), {"status": "retired"})]
)
def test_any_layout_can_be_edited(text: str, change: Change) -> None:
    """What comes out says what was there and the change, whatever style it was written in."""
    wanted = parse_document(text.encode(), "c").data
    node = wanted
    for step in change.path[:-1]:
        node = node[step]
    assert isinstance(change, Put)
    node[change.path[-1]] = change.value
    assert parse_document(edit(text.encode(), [change]), "c").data == wanted


@pytest.mark.parametrize(
    "path", [("models", "alpha", "prices", 5), ("models", "alpha", "display_name", "deeper"), ("models", "alpha", 3)]
)
def test_a_path_that_leads_nowhere_is_refused(path: tuple[str | int, ...]) -> None:
    """The document is not touched."""
    with pytest.raises(CatalogError, match="does not lead into the catalog"):
        edit(TEXT.encode(), [Put(path, "x")])


@settings(max_examples=60, deadline=None)
@given(
    value=st.one_of(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=30),
        st.integers(-1000, 1000),
        st.booleans(),
        st.lists(st.sampled_from(["a", "1.5", "2026-01-01", "null", "#x", "- y", "{z"]), max_size=3),
    ),
    field=st.sampled_from(["reason", "display_name", "quality"]),
)
def test_whatever_is_put_in_is_read_back(value: object, field: str) -> None:
    """Text that looks like a number, a day, nothing or a comment stays text."""
    after = edit(TEXT.encode(), [Put(("models", "alpha", field), value)])
    assert parse_document(after, "c").data["models"]["alpha"][field] == value


def test_the_shipped_document_is_edited_in_place() -> None:
    """Retiring each model in turn adds one line to its entry, or changes one."""
    text = (Path(__file__).parents[2] / "catalog.yaml").read_bytes()
    name = list(parse_document(text, "c").data["models"])[7]
    after = edit(text, [Put(("models", name, "status"), "retired")])
    assert abs(len(after.splitlines()) - len(text.splitlines())) <= 1
