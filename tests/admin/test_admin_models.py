"""Deciding on models, and versions of the document, by the admin API."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.callers.roles import Role
from gateway.catalog.load import check_text
from gateway.catalog.versions import version_of

MODELS = "/admin/api/models"
CATALOG = "/admin/api/catalog"
FULL = {
    "id": "qwen/qwen9",
    "name": "Qwen 9",
    "context_length": 64_000,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "supported_parameters": ["tools"],
    "pricing": {"prompt": "0.0000005", "completion": "0.0000015"},
}
BARE = {"id": "vendor/unknown-1"}


@pytest.fixture
async def discovered(admin: Any) -> Any:
    """The admin API after both providers were asked: `qwen9` with all facts waits, and `unknown-1` with none."""
    admin.answers["one.example"] = (200, {"data": [{"id": "alpha-1"}, {"id": "beta-1"}, {"id": "alpha-1-tts"}]})
    admin.answers["two.example"] = (200, {"data": [FULL, BARE]})
    found = await admin("POST", f"{MODELS}/discover", {})
    assert found.status == 200, found.text
    return admin


async def test_discovery_tells_of_every_provider(discovered: Any) -> None:
    """New models wait with what is suggested; text and speech apart; soon afterwards nobody is asked again."""
    found = (await discovered("GET", f"{MODELS}?status=pending")).json
    waiting = {row["id"]: row for row in found["data"]}
    assert waiting.keys() == {"two/qwen/qwen9", "two/vendor/unknown-1", "one/alpha-1-tts"}
    qwen = waiting["two/qwen/qwen9"]
    assert (qwen["name"], qwen["display_name"], qwen["usd_per_mtok"]) == (
        "qwen9",
        "Qwen 9",
        {"input": "0.5", "output": "1.5"},
    )
    assert qwen["missing"] == []
    assert qwen["sources"]["price"] == "two's model list, unverified"
    assert len(waiting["two/vendor/unknown-1"]["missing"]) == 2
    speech = (await discovered("GET", f"{MODELS}?category=speech")).json["data"]
    assert [row["id"] for row in speech] == ["one/alpha-1-tts"]
    assert found["lists"]["one"] == {"refreshed": "just now", "error": None, "listed": 3}
    again = (await discovered("POST", f"{MODELS}/discover", {"provider": "one"})).json["data"]
    assert [(row["state"], row["detail"]) for row in again] == [("fresh", "refreshed just now")]
    forced = (await discovered("POST", f"{MODELS}/discover", {"provider": "one", "force": True})).json["data"]
    assert forced[0]["state"] == "refreshed"


async def test_approving_writes_the_document_and_keeps_its_comments(discovered: Any) -> None:
    """The model is in force when the answer comes; it waits no longer; the price is marked as nobody's finding."""
    before = discovered.document.read_text()
    answer = await discovered("PATCH", f"{MODELS}/two%2Fqwen%2Fqwen9", {"status": "enabled", "quality": "smart"})
    assert (answer.status, answer.json["id"], answer.json["status"]) == (200, "qwen9", "enabled")
    after = discovered.document.read_text()
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    entry = check_text(after.encode(), "c")[1].models["qwen9"]
    assert (entry.quality, entry.context.input_tokens) == ("smart", 64_000)
    (price,) = entry.prices
    assert (price.source, price.checked, str(price.starts)) == ("two's model list, unverified", None, "2026-11-21")
    source = discovered.living.source
    assert "two/qwen9" in source.current.deployments
    assert any("was never compared with its source" in warning for warning in source.current.warnings)
    assert (await discovered("GET", f"{MODELS}/two%2Fqwen%2Fqwen9")).status == 404
    assert (await discovered("GET", f"{MODELS}/qwen9")).json["status"] == "enabled"


async def test_approval_is_refused_while_a_fact_is_missing(discovered: Any) -> None:
    """With each reason; facts may be given, or the approval forced."""
    path = f"{MODELS}/two%2Fvendor%2Funknown-1"
    refused = await discovered("PATCH", path, {"status": "enabled"})
    assert refused.status == 400
    assert "missing what it can do (capabilities); a price (usd_per_mtok)" in refused.error["message"]
    facts = {"capabilities": ["text_input", "text_output"], "display_name": "Unknown One"}
    assert (await discovered("PATCH", path, facts)).json["missing"] == ["a price (usd_per_mtok)"]
    price = {"usd_per_mtok": {"input": "1", "output": "2"}, "price_source": "a letter", "price_from": "2026-12-01"}
    assert (await discovered("PATCH", path, {"status": "enabled", **price})).status == 200
    entry = discovered.living.source.entries.models["unknown-1"]
    assert (str(entry.prices[0].starts), entry.prices[0].source) == ("2026-12-01", "a letter")


async def test_a_forced_approval_has_no_price(discovered: Any) -> None:
    """So that callers with a budget are not routed to it."""
    path = f"{MODELS}/two%2Fvendor%2Funknown-1"
    assert (await discovered("PATCH", path, {"status": "enabled", "force": True})).status == 200
    assert discovered.living.source.current.deployments["two/unknown-1"].prices == ()


async def test_a_rejected_model_is_not_found_again(discovered: Any) -> None:
    """It stays known and can be taken up again."""
    path = f"{MODELS}/two%2Fqwen%2Fqwen9"
    assert (await discovered("PATCH", path, {"status": "rejected"})).json["status"] == "rejected"
    assert "two/qwen/qwen9" not in discovered.living.source.current.previews
    forced = (await discovered("POST", f"{MODELS}/discover", {"force": True})).json["data"]
    assert [row["new"] for row in forced] == [[], []]
    assert (await discovered("PATCH", path, {"status": "pending"})).json["status"] == "pending"


async def test_a_known_models_decisions(admin: Any) -> None:
    """Disable with a reason, enable, deprecate with a replacement; a new price is appended, never edited."""
    path = f"{MODELS}/beta"
    await admin("PATCH", path, {"status": "disabled", "reason": "too slow"})
    snapshot = admin.living.source.current
    assert (snapshot.models["beta"].status, snapshot.targets["beta"].note) == ("disabled", "too slow")
    await admin("PATCH", path, {"status": "enabled"})
    assert (await admin("GET", path)).json["reason"] is None
    await admin("PATCH", path, {"status": "deprecated", "replacement": "alpha", "retires_on": "2027-01-31"})
    shown = (await admin("GET", path)).json
    assert (shown["deprecated_on"], shown["retires_on"], shown["replacement"]) == ("2026-11-21", "2027-01-31", "alpha")
    assert admin.living.source.current.targets["beta"].substituted == "beta"
    await admin("PATCH", f"{MODELS}/alpha", {"usd_per_mtok": {"input": "2", "output": "8"}, "price_from": "2027-01-01"})
    rows = (await admin("GET", f"{MODELS}/alpha")).json["prices"]
    assert [(row["from"], row["usd_per_mtok"]["input"]) for row in rows] == [("2026-01-01", "1"), ("2027-01-01", "2")]
    assert "# the small one" in admin.document.read_text()


@pytest.mark.parametrize(
    ("model", "body", "words"),
    [
        ("beta", {"status": "pending"}, "is in the catalog"),
        ("beta", {"name": "gamma"}, "are changed in the document"),
        ("beta", {"status": "gone"}, "status"),
        ("beta", {"replacement": "nobody"}, "unknown model 'nobody'"),
        ("alpha", {"usd_per_mtok": {"input": "2", "output": "8"}, "price_from": "2025-01-01"}, "append rows by date"),
        ("alpha", {"capabilities": ["flying"]}, "capabilities"),
        ("nobody", {"status": "enabled"}, "No model 'nobody'"),
        ("two%2Fqwen%2Fqwen9", {"status": "disabled"}, "it can be enabled or rejected"),
        ("two%2Fqwen%2Fqwen9", {"status": "enabled", "name": "alpha", "unknown": 1}, "Unknown field"),
    ],
)
async def test_what_makes_no_sense_changes_nothing(discovered: Any, model: str, body: Any, words: str) -> None:
    """The answer says why; the document stays byte for byte."""
    before = discovered.document.read_text()
    answer = await discovered("PATCH", f"{MODELS}/{model}", body)
    assert answer.status in (400, 404)
    assert words in answer.error["message"]
    assert discovered.document.read_text() == before


async def test_a_model_that_is_there_already_gets_a_deployment(discovered: Any) -> None:
    """Where another provider begins to serve it under the same name."""
    path = f"{MODELS}/two%2Fqwen%2Fqwen9"
    assert (await discovered("PATCH", path, {"status": "enabled", "name": "alpha"})).status == 200
    served = discovered.living.source.current.targets["alpha"].tier.deployments
    assert [d.name for d in served] == ["one/alpha", "two/alpha"]
    assert [d.prices[0].rates.input for d in served] == [1_000_000, 500_000]


async def test_many_are_decided_in_one_version(discovered: Any) -> None:
    """What cannot be changed is told beside what was."""
    ids = ["two/qwen/qwen9", "two/vendor/unknown-1", "beta", "nobody", "beta"]
    answer = (await discovered("POST", f"{MODELS}/bulk", {"ids": ids, "status": "enabled"})).json
    assert answer["changed"] == ["two/qwen/qwen9", "beta"]
    assert [row["id"] for row in answer["refused"]] == ["two/vendor/unknown-1", "nobody"]
    history = (await discovered("GET", f"{CATALOG}/history")).json
    assert history["in_force"] == answer["catalog"] == history["data"][0]["version"]
    assert len(history["data"]) == 2


async def test_a_default_must_be_there_and_enabled(admin: Any) -> None:
    """Provider, category and model go together."""
    body = {"provider": "two", "category": "text", "model_id": "beta"}
    assert (await admin("POST", f"{MODELS}/default", body)).status == 200
    assert admin.living.source.current.providers["two"].defaults == {"text": "beta"}
    assert "# the first" in admin.document.read_text()
    for wrong, status in (({"model_id": "x"}, 404), ({"provider": "x"}, 404), ({"category": "speech"}, 400)):
        assert (await admin("POST", f"{MODELS}/default", {**body, **wrong})).status == status


async def test_every_change_is_audited_with_both_documents(discovered: Any) -> None:
    """Who, what, and the SHA-256 of the document before and after, whose beginnings are the versions."""
    await discovered("PATCH", f"{MODELS}/beta", {"status": "disabled"})
    newest, asked = (await discovered("GET", "/admin/api/audit")).json["data"][:2]
    assert (newest["action"], newest["target"], newest["actor"]) == ("model.disabled", "beta", "bootstrapadm")
    versions = [row["version"] for row in (await discovered("GET", f"{CATALOG}/history")).json["data"]]
    assert [newest["after"][:12], newest["before"][:12]] == versions
    assert asked["action"] == "models.discover"


async def test_versions_are_published_compared_and_gone_back_to(admin: Any) -> None:
    """The difference is told in sentences; a bad document, or one made from another version, is refused."""
    first = admin.living.source.current.version
    text = admin.document.read_text().replace('output: "4.00"', 'output: "5.00"')
    compared = (await admin("POST", f"{CATALOG}/diff", {"document": text})).json["data"]
    assert any("output +25.0 %" in line for line in compared)
    published = await admin("POST", f"{CATALOG}/publish", {"document": text, "note": "dearer"})
    assert published.json["version"] == version_of(text.encode())
    assert (await admin("GET", CATALOG)).text == text
    assert (await admin("GET", f"{CATALOG}/diff?from={first}")).json["data"] == compared
    history = (await admin("GET", f"{CATALOG}/history")).json
    assert history["data"][0]["note"] == "dearer"
    assert [member["version"] for member in history["processes"]] == [published.json["version"]]

    bad = await admin("POST", f"{CATALOG}/publish", {"document": text.replace("[beta, alpha]", "[nobody]")})
    assert (bad.status, bad.error["code"]) == (400, "catalog_invalid")
    assert "unknown model 'nobody'" in bad.error["message"]
    stale = await admin("POST", f"{CATALOG}/publish", {"document": text + "\n", "expected": first})
    assert (stale.status, stale.error["code"]) == (409, "conflict")
    assert admin.living.source.current.version == published.json["version"]

    back = await admin("POST", f"{CATALOG}/rollback", {"version": first[:8]})
    assert back.json["version"] == first == version_of(admin.document.read_bytes())
    assert (await admin("POST", f"{CATALOG}/rollback", {"version": "ffff"})).status == 404


async def test_a_document_of_two_mebibytes_can_be_published(admin: Any) -> None:
    """Larger than any other body of the admin API."""
    text = admin.document.read_text()
    text += "#" * 79 + "\n"
    text += ("# " + "x" * 77 + "\n") * ((2 * 1024 * 1024 - len(text)) // 80 - 1)
    assert (await admin("POST", f"{CATALOG}/publish", {"document": text})).status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", f"{MODELS}/beta", {"status": "disabled"}),
        ("POST", f"{MODELS}/discover", {}),
        ("POST", f"{CATALOG}/publish", {"document": "x"}),
        ("POST", f"{CATALOG}/rollback", {"version": "ffff"}),
        ("GET", MODELS, None),
        ("GET", CATALOG, None),
    ],
)
async def test_the_catalog_is_not_for_every_role(admin: Any, method: str, path: str, body: Any) -> None:
    """Apps and finance neither see nor change it; ops may."""
    for role in (Role.APP, Role.FINANCE):
        key, _ = await admin.key(role=role)
        assert (await admin(method, path, body, token=key)).status == 403
    ops, _ = await admin.key(role=Role.OPS)
    assert (await admin(method, path, body, token=ops)).status != 403
