"""YAML as plain values: what is read, and what is refused before it can do harm."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from gateway.catalog.document import MAX_BYTES, MAX_LINES, MAX_NODES, parse_document
from gateway.catalog.problems import InvalidCatalog


def refused(text: bytes) -> str:
    with pytest.raises(InvalidCatalog) as caught:
        parse_document(text, "catalog.yaml")
    return str(caught.value)


def test_scalars_follow_the_core_schema() -> None:
    """Only null, booleans, and finite numbers of reasonable length are more than text."""
    text = b"a: 1\nb: 1.5\nc: yes\nd: true\ne:\nf: '7'\ng: 2026-11-21\nh: 1e999\ni: .nan\nj: 0x10\n"
    assert parse_document(text, "x").data == {
        "a": 1,
        "b": 1.5,
        "c": "yes",
        "d": True,
        "e": None,
        "f": "7",
        "g": "2026-11-21",
        "h": "1e999",
        "i": ".nan",
        "j": "0x10",
    }


def test_a_number_of_5000_digits_stays_text() -> None:
    """A number that would cost time to convert is left for the schema to refuse (S15)."""
    digits = "9" * 5000
    assert parse_document(f"a: {digits}\n".encode(), "x").data == {"a": digits}


def test_every_key_and_item_has_its_line() -> None:
    """Lines are counted from 1; what was not written has the line of what surrounds it."""
    document = parse_document(b"a:\n  b:\n    - x\n    - {c: 1,\n       d: 2}\n", "x")
    assert document.line(("a", "b")) == 2
    assert document.line(("a", "b", 1)) == 4
    assert document.line(("a", "b", 1, "d")) == 5
    assert document.line(("a", "b", 7, "e")) == 2
    assert document.line(("nowhere",)) == 1


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    """Editors that write one do no harm."""
    assert parse_document(b"\xef\xbb\xbfa: 1\n", "x").data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: !!python/object/apply:os.system [true]\n", "catalog.yaml:1: tag tag:yaml.org,2002:python/object/apply"),
        (b"a: 1\nb: !secret x\n", "catalog.yaml:2: tag !secret is not supported; write plain values"),
        (b"a: &x [1]\nb: *x\n", "catalog.yaml:2: alias *x is not supported; write the value out where it is used"),
        (b"a: &x {}\nb:\n  <<: *x\n", "catalog.yaml:3: b: merge key << is not supported; write the keys out"),
        (b"a: 1\nb:\n  c: 1\n  c: 2\n", "catalog.yaml:4: b: key 'c' stands here again; first on line 3; keep one"),
        (b"a: [1\nb: 2\n", "catalog.yaml:2: is not valid YAML: while parsing a flow sequence"),
        (b"a: 1\n---\nb: 2\n", "catalog.yaml:2: starts a second document; a catalog is one document"),
        (b"? [a]\n: 1\n", "catalog.yaml:1: has a list or mapping as a key; keys are plain text"),
        (b"a: 1\nb: \xff\n", "catalog.yaml:2: is not UTF-8; save it in that encoding"),
        (b"a: \x00\n", "catalog.yaml:1: is not valid YAML: unacceptable character #x0000"),
        (b'a: "\\ud800"\n', "catalog.yaml:1: has half of a surrogate pair; write the character itself"),
        (b"", "catalog.yaml:1: is empty; it must hold providers, models and tiers"),
        (b"- a\n", "catalog.yaml:1: is not a mapping; it must hold providers, models and tiers"),
        (b"[" * 5000, "is nested more than 32 levels deep"),
        (b"a" * (MAX_BYTES + 1), "catalog.yaml:1: is 2,097,153 bytes long; at most 2,097,152 are read"),
        (b"\n" * (MAX_LINES + 1), "catalog.yaml:1: has 100,001 lines; at most 100,000 are read"),
        (b"a: [" + b"x," * MAX_NODES + b"]", "catalog.yaml:1: a: holds more than 120,000 keys and values"),
        (b"".join(b"k%d: 1\n" % n for n in range(60_000)), "catalog.yaml:60000: holds more than 120,000 keys and"),
        (b"a: [" + b"&a x," * MAX_NODES + b"]", "catalog.yaml:1: a: holds more than 120,000 keys and values"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: bytes, said: str) -> None:
    """Tags, aliases, repeated keys, deep nesting and great length never get further (S23, S24)."""
    assert said in refused(text)


def test_nothing_runs_while_a_tag_is_refused(tmp_path: pytest.TempPathFactory) -> None:
    """A constructor tag is only text (S23)."""
    trace = f"{tmp_path}/ran"
    assert "tag" in refused(f"a: !!python/object/apply:os.system ['touch {trace}']\n".encode())
    with pytest.raises(FileNotFoundError):
        open(trace).close()


def test_an_alias_bomb_costs_no_memory() -> None:
    """Nine levels of nine aliases are refused at the first alias (S24)."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    tracemalloc.start()
    said = refused("\n".join(lines).encode())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert said.startswith("catalog.yaml:2: a1: alias *a0 is not supported")
    assert peak < 5_000_000


def test_a_thousand_repeated_keys_are_not_all_told() -> None:
    """The message stays short, however bad the document is (S24)."""
    lines = refused(b"k: 1\n" * 1000).splitlines()
    assert len(lines) == 101
    assert lines[-1].endswith("more problems")


@pytest.mark.parametrize("text", [b"a: !<%s> 1", b"a: !%s 1", b"a: *%s", b"%s: 1\n%s: 2", b"a: {%s: 1, %s: 2}"])
def test_a_long_name_is_told_in_few_words(text: bytes) -> None:
    """A megabyte of a tag, an alias or a key is neither repeated nor taken character by character (S24)."""
    begun = time.process_time()
    said = refused(text.replace(b"%s", b"x" * 1_000_000))
    assert time.process_time() - begun < 3  # a quarter of a second; it was seven
    assert len(said) < 500
