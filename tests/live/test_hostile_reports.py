"""Reports, names and labels that would run, be framed, or reach into another's books (cases S26 to S30)."""

from __future__ import annotations

import csv
import io
import json
import re
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fake_catalog import catalog_for
from fakes import FakeProvider, eventually
from redis import Redis
from running import ADMIN_TOKEN, RunningGateway, running_gateway
from talk import Talk, admin, chat, key_with

TOMORROW = datetime.now(UTC).date() + timedelta(days=2)
MONTH = f"from={TOMORROW - timedelta(days=30)}&to={TOMORROW}"


@pytest.fixture(scope="module")
def booking(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway whose books hold nothing but what these tests book."""
    folder: Path = tmp_path_factory.mktemp("booking")
    catalog = catalog_for(fake, folder / "catalog.yaml", {"fast": ["plain"]})
    with running_gateway(folder, catalog=catalog) as running:
        yield running


FORMULAS = ["=HYPERLINK(1)", "+1+1", "-1+1", "@SUM(A1)", '=1+1"; "', "=cmd|' /C calc'!A0"]


def test_names_do_not_become_formulas(booking: RunningGateway) -> None:
    """S26: in CSV a key's name and a tag's value are text whatever they begin with, and numbers are numbers."""
    for formula in FORMULAS:
        made = admin(booking, "/keys", {"name": formula}, method="POST")
        assert made.status == 201, made.raw
        bearer = {"authorization": f"Bearer {made.body['key']}"}
        assert chat(booking, "fast", headers=bearer, gateway={"tags": {"=a": formula}}).status == 200

    def rows() -> list[dict[str, str]]:
        answer = admin(booking, f"/report?{MONTH}&by=key,{urllib.parse.quote('tag:=a')}&format=csv")
        assert answer.status == 200, answer.raw
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"].startswith("attachment;")
        found = list(csv.DictReader(io.StringIO(answer.raw.decode())))
        return found if len(found) == len(FORMULAS) else []

    found = eventually(rows)
    assert {row["key_name"] for row in found} == {f"'{formula}" for formula in FORMULAS}
    for row in found:
        for name, cell in row.items():
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (name, cell)
        assert not any(name.startswith(("=", "+", "-", "@")) for name in row)
        assert int(row["cost_nano_usd"]) > 0


@pytest.mark.parametrize("name", ["a\tb", "a\rb", "a\nb", "\x00", "\x1b[31m", "", "x" * 101])
def test_names_that_would_break_a_row_are_refused(booking: RunningGateway, name: str) -> None:
    """S26: control characters are in no key's name."""
    assert admin(booking, "/keys", {"name": name}, method="POST").status == 400


MARKUP = "<img src=x onerror=alert(1)>"


def test_markup_stays_text(booking: RunningGateway) -> None:
    """S27: there is no page yet; what the API answers is JSON and nothing that a browser would show or run."""
    key_with(booking, name=MARKUP)
    answer = admin(booking, "/keys")
    assert MARKUP in [key["name"] for key in answer.body["data"]]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    unknown = admin(booking, f"/keys/{urllib.parse.quote(MARKUP)}")
    assert unknown.status == 404
    assert unknown.headers["content-type"] == "application/json"


PAGES = ["/keys", f"/report?{MONTH}", f"/report?{MONTH}&format=csv", f"/ledger?{MONTH}", "/health", "/audit"]
PAGES += ["/models", "/catalog", "/openapi.json", "/nothing", "/report?by=nothing"]


@pytest.mark.parametrize("page", PAGES)
def test_what_admins_see_is_neither_framed_nor_kept(booking: RunningGateway, page: str) -> None:
    """S29: good answers and refusals alike."""
    for answer in (admin(booking, page), unknown_caller(booking, page)):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_another_site_cannot_act_for_an_admin(booking: RunningGateway, kind: str) -> None:
    """S28: what a browser sends along by itself is no credential, and no site is given leave to send one."""
    headers = {"authorization": "", "cookie": f"session={ADMIN_TOKEN}", "origin": "https://evil.example"}
    with Talk(booking) as talk:
        posted = talk.ask("/admin/api/keys", {"name": "x"}, headers={**headers, "content-type": kind})
        asked = talk.ask(
            "/admin/api/keys",
            method="OPTIONS",
            headers={
                **headers,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization",
            },
        )
    assert (posted.status, asked.status) == (401, 401)
    assert not [name for answer in (posted, asked) for name in answer.headers if name.startswith("access-control-")]


def unknown_caller(gateway: RunningGateway, page: str):  # type: ignore[no-untyped-def]  # an Answer
    with Talk(gateway, "wrong") as talk:
        return talk.ask(f"/admin/api{page}", method="GET")


LABELS = ["{0.__class__}", "}{t:other}:x", "*", "a:b:c", "?[a-z]", "%s%n", "../..", "'; DROP", "a|b,c=d", "\\"]
BREAKING = ["a\r\nx: y", "a\nb", "a\x00b", "a\x1bb", "a\u2028b"]


def test_labels_stay_in_their_tenants_slot(booking: RunningGateway) -> None:
    """S30: tags, sessions and aliases of odd characters are served, or refused with a 400 or 404; every record they
    leave is in the caller's own slot, and another tenant's books stay empty."""
    for label in LABELS:
        tagged = chat(booking, "fast", gateway={"tags": {label: label}, "session": label})
        assert tagged.status == 200, (label, tagged.raw)
        assert chat(booking, label).error["code"] == "model_not_found"
    for label in BREAKING:
        assert chat(booking, "fast", gateway={"tags": {"x": label}}).status == 400
        assert chat(booking, "fast", gateway={"tags": {label: "x"}}).status == 400
    founder = admin(booking, "/keys", {"name": "theirs", "role": "admin", "tenant": "other"}, method="POST").body["key"]

    def booked() -> bool:
        by = urllib.parse.quote(f"tag:{LABELS[0]}")
        return len(admin(booking, f"/report?{MONTH}&by={by}").body["rows"]) == 2

    assert eventually(booked)
    with Talk(booking, founder) as talk:
        assert talk.ask(f"/admin/api/report?{MONTH}", method="GET").body["rows"] == []
        assert talk.ask(f"/admin/api/ledger?{MONTH}", method="GET").body["data"] == []
    with Redis(unix_socket_path=booking.store_socket) as store:
        names = [name.decode() for name in store.scan_iter(count=1000)]
    assert names
    assert not [name for name in names if name.startswith("{t:other}") and "DROP" in name]
    for name in names:  # in a slot of ours, or a record of the whole installation without anything of a caller's
        assert re.match(r"\{[a-z0-9:]+\}[^{}]*$", name) or re.fullmatch(r"[a-z:_-]+", name), name


def test_a_report_by_an_odd_label_is_refused_in_words(booking: RunningGateway) -> None:
    """S30: what cannot be a dimension is a 400, never an error of ours."""
    for label in (*LABELS, *BREAKING, "tag:", "x" * 501, "day," * 100):
        answer = admin(booking, f"/report?{MONTH}&by={urllib.parse.quote(label)}")
        assert answer.status == 400, (label, answer.raw)
        json.loads(answer.raw)
