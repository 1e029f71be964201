"""Catalog documents that would run something, eat memory or call where they must not (cases S23 to S25)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_catalog import catalog_for
from fakes import FakeProvider, eventually
from running import RunningGateway, running_gateway
from talk import Answer, admin, chat

from tests.live.test_hostile_framing import cpu_s, resident_mib

MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def guarded(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway with a document of its own; it lies beside the data as `catalog.yaml`."""
    folder: Path = tmp_path_factory.mktemp("guarded")
    catalog = catalog_for(fake, folder / "catalog.yaml", {"fast": ["plain"]})
    with running_gateway(folder, catalog=catalog, env={"ONE_KEY": "one-secret-0123456789"}) as running:
        yield running


def document(gateway: RunningGateway) -> Path:
    return gateway.data_dir.parent / "catalog.yaml"


def publish(gateway: RunningGateway, text: str) -> Answer:
    return admin(gateway, "/catalog/publish", {"document": text}, method="POST")


MANY = "".join(f"k{n}: 1\n" for n in range(59_990))
"""Nearly as many keys and values as a document may have."""
LEVELS = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9) if n else 'x'}]\n" for n in range(9))
DOCUMENTS: dict[str, str] = {
    "an object of Python's": "!!python/object/apply:os.system ['touch {trap}']",
    "an object of Python's within": "providers: {{one: !!python/object/new:os.system ['touch {trap}']}}",
    "a module of Python's": "a: !!python/module:os",
    "a name of Python's": "a: !!python/name:os.system",
    "another tag": "a: !<tag:yaml.org,2002:python/object/apply:subprocess.run> [[touch, {trap}]]",
    "an alias bomb": LEVELS,
    "an alias of itself": "a: &a [*a]",
    "a merge key": "a: &a {{b: 1}}\nc: {{<<: *a}}",
    "a repeated key": "providers: {{}}\nproviders: {{}}",
    "a repeated key deep down": "tiers: {{fast: {{models: [a], models: [b]}}}}",
    "a repeated key after many others": f"{MANY}k7: 2\n",
    "a repeated key after many others in braces": "{" + MANY.replace("\n", ", ") + "k7: 2}",
    "a key repeated as often as there is room": "k: 1\n" * 99_999,
    "as many keys as there is room for": "".join(f"k{n}: 1\n" for n in range(99_999)),
    "aliases as many as there is room for": f"a: &a [x]\nb: [{'*a,' * 600_000}]",
    "an alias bomb behind many keys": MANY[: MANY.index("k59000")] + LEVELS,
    "a tag of a megabyte": f"a: !<{'x' * MEBIBYTE}> 1",
    "an alias of a megabyte": f"a: *{'x' * MEBIBYTE}",
    "deep nesting": "a: " + "[" * 50_000,
    "two documents": "a: 1\n---\nb: 2",
}


@pytest.mark.parametrize("name", list(DOCUMENTS))
def test_a_hostile_document_takes_no_effect(guarded: RunningGateway, tmp_path: Path, name: str, soak: bool) -> None:
    """S23, S24: refused with the place that is wrong, in bounded time and memory; nothing of it runs.

    The second that it may take is counted in the processor's time: other work on the machine is not ours.
    """
    trap = tmp_path / "sprung"
    hostile = DOCUMENTS[name].replace("{{", "{").replace("}}", "}").replace("{trap}", str(trap))
    before, used_s = resident_mib(guarded), cpu_s(guarded)
    answer = publish(guarded, hostile)
    assert (answer.status, answer.error["code"]) == (400, "catalog_invalid")
    assert cpu_s(guarded) - used_s < (1 if soak else 5)
    assert resident_mib(guarded) - before < 50
    assert len(answer.raw) < 20_000
    assert chat(guarded, "fast").status == 200
    assert not trap.exists()


def test_a_document_that_is_too_long(guarded: RunningGateway, soak: bool) -> None:
    """S24: ten megabytes are refused unread, by the admin API and in the file."""
    text = "a: " + "x" * 10 * MEBIBYTE
    before, used_s = resident_mib(guarded), cpu_s(guarded)
    assert publish(guarded, text).status == 413
    assert cpu_s(guarded) - used_s < (1 if soak else 5)
    good = document(guarded).read_bytes()
    document(guarded).write_text(text)
    problem = eventually(lambda: admin(guarded, "/health").body["catalog"]["problem"])
    assert "bytes long" in problem
    assert chat(guarded, "fast").status == 200
    document(guarded).write_bytes(good)
    eventually(lambda: admin(guarded, "/health").body["catalog"]["problem"] is None)
    assert resident_mib(guarded) - before < 50


ADDRESSES = [
    *("http://169.254.169.254/latest", "http://127.0.0.1:6379/v1", "http://localhost/v1", "http://[::1]/v1"),
    *("http://0x7f000001/v1", "http://127.1/v1", "http://2130706433/v1", "http://[::ffff:169.254.169.254]/v1"),
    *("http://metadata.google.internal/v1", "http://10.0.0.1/v1", "http://0.0.0.0/v1", "http://service.local/v1"),
    *("file:///etc/passwd", "ftp://example.com/", "gopher://example.com/", "unix:///tmp/x", "//example.com/v1"),
    *("https://user:secret@example.com/v1", "https://example.com/v1?key=x", "https://example.com/v1#x"),
    *("https://example.com /v1", "https://exa\nmple.com/v1", "https://example.com:0/v1"),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_within_our_network_needs_leave(guarded: RunningGateway, address: str) -> None:
    """S25: what is no plain public address is refused unless `allow_private` says so; a password is not shown."""
    changed = written(guarded)
    changed["providers"]["plain"] |= {"base_url": address, "allow_private": False}
    answer = publish(guarded, json.dumps(changed))
    assert (answer.status, answer.error["code"]) == (400, "catalog_invalid")
    assert "providers.plain.base_url" in answer.error["message"]
    assert "secret" not in answer.error["message"]


def test_a_secret_written_into_the_document_is_not_repeated(guarded: RunningGateway) -> None:
    """S21: only references are taken; the refusal, the log and the health page do not show what stood there."""
    changed = written(guarded)
    changed["providers"]["plain"]["api_key"] = "sk-canary-written-down-0123456789"
    answer = publish(guarded, json.dumps(changed))
    assert answer.status == 400
    good = document(guarded).read_bytes()
    document(guarded).write_text(json.dumps(changed))
    problem = eventually(lambda: admin(guarded, "/health").body["catalog"]["problem"])
    document(guarded).write_bytes(good)
    eventually(lambda: admin(guarded, "/health").body["catalog"]["problem"] is None)
    for text in (answer.raw.decode(), problem, guarded.log.read_text()):
        assert "canary" not in text


def written(gateway: RunningGateway) -> Any:
    return json.loads(document(gateway).read_text())
