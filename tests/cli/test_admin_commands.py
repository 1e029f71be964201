"""The commands that talk to a running gateway, against its real admin API."""

from __future__ import annotations

import asyncio
import http.server
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from admin_api import ADMIN
from books import attempt, flushed, open_ledger, settle
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.errors import CallerError
from gateway.log import configure_logging
from gateway.money import usd


class Tiergate:
    """Runs `tiergate` with the admin API's address and token in the environment."""

    def __init__(self, url: str, token: str | None = ADMIN) -> None:
        self._env = {"TIERGATE_URL": url, "TIERGATE_ADMIN_TOKEN": token}

    async def __call__(self, *words: str, status: int = 0) -> Result:
        result = await asyncio.to_thread(CliRunner().invoke, app, list(words), env=self._env)
        assert result.exit_code == status, result.output
        return result


@pytest.fixture
def tiergate(admin: Any) -> Iterator[Tiergate]:
    """The command for the running admin API, whose log stays out of what the command prints."""
    configure_logging("error", "json")
    yield Tiergate(admin.url)
    structlog.reset_defaults()


async def identified(admin: Any, key: str) -> Any:
    return await admin.opened.callers.identify(b"Bearer " + key.strip().encode(), "127.0.0.1")


async def test_a_key_lives_from_create_to_revoke(admin: Any, tiergate: Tiergate) -> None:
    """Create shows the key alone on standard output; update, rotate and revoke do what they say."""
    limits = ["--budget", "25/month", "--budget", "2.5/day:soft", "--rpm", "60", "--tag", "env=prod", "--tier", "fast"]
    made = await tiergate("keys", "create", "search backend", "--team", "search", *limits)
    caller = await identified(admin, made.stdout)
    assert (caller.team, caller.tags, caller.tiers) == ("search", (("env", "prod"),), {"fast"})
    assert [(b.limit_nano, b.per, b.hard) for b in caller.limits.budgets] == [
        (25_000_000_000, "month", True),
        (2_500_000_000, "day", False),
    ]
    listed = (await tiergate("keys", "list")).stdout
    assert "search backend" in listed
    assert "$25/month, $2.5/day soft" in listed
    assert made.stdout.strip() not in listed

    key_id = caller.key_id
    slip = await tiergate("keys", "update", key_id, "--deny-model", "alhpa")
    assert slip.stderr == "warning: the catalog has no model 'alhpa'; did you mean 'alpha'?\n"
    assert "warning" not in slip.stdout
    await tiergate("keys", "update", key_id, "--tpm", "5", "--clear", "rpm", "--clear", "tags", "--name", "renamed")
    shown = json.loads((await tiergate("keys", "show", key_id, "--format", "json")).stdout)
    assert (shown["rpm"], shown["tpm"], shown["tags"], shown["name"]) == (None, 5, {}, "renamed")
    await tiergate("keys", "update", key_id, "--budget", "3/day:local", "--rates-on-store-down", "deny")
    shown = json.loads((await tiergate("keys", "show", key_id, "--format", "json")).stdout)
    assert shown["budget"] == {"usd": "3", "per": "day", "hard": True, "on_store_down": "local"}
    assert shown["rates_on_store_down"] == "deny"
    await tiergate("keys", "update", key_id, "--criticality", "sheddable", "--not-before", "2026-01-31")
    shown = json.loads((await tiergate("keys", "show", key_id, "--format", "json")).stdout)
    assert (shown["criticality"], shown["not_before"]) == ("sheddable", "2026-01-31T00:00:00Z")

    rotated = await tiergate("keys", "rotate", key_id, "--overlap-s", "0")
    assert (await identified(admin, rotated.stdout)).key_id == key_id
    assert "revoked" in (await tiergate("keys", "revoke", key_id)).stdout
    for key in (made.stdout, rotated.stdout):
        with pytest.raises(CallerError):
            await identified(admin, key)


async def test_a_hostile_name_is_shown_as_it_is(admin: Any, tiergate: Tiergate) -> None:
    """Markup in a name is text."""
    await tiergate("keys", "create", "[red]x[/red][link=http://evil]y")
    assert "[red]x[/red][link=http://evil]y" in (await tiergate("keys", "list")).stdout


async def test_what_the_gateway_refuses_is_said_in_its_words(admin: Any, tiergate: Tiergate) -> None:
    """One sentence on standard error, exit status 1, no traceback."""
    refused = await tiergate("keys", "create", "x", "--role", "root", status=1)
    assert "400" in refused.stderr
    assert "'role'" in refused.stderr
    assert "Traceback" not in refused.output
    assert "no key with this id" in (await tiergate("keys", "show", "a?b#c", status=1)).stderr
    assert "404" in (await tiergate("keys", "show", "../../admin/api/keys", status=1)).stderr
    wrong = Tiergate(admin.url, "not-the-token-of-this-gateway")
    assert "TIERGATE_ADMIN_TOKEN" in (await wrong("keys", "list", status=1)).stderr


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "create", "x", "--budget", "25"),
        ("keys", "create", "x", "--budget", "-1/day"),
        ("keys", "create", "x", "--tag", "env"),
        ("keys", "update", "abcdefghijkl"),
    ],
)
async def test_options_that_are_not_understood_are_usage_errors(tiergate: Tiergate, words: tuple[str, ...]) -> None:
    """Exit status 2, before anything is asked."""
    await tiergate(*words, status=2)


async def test_the_printed_total_is_the_sum_of_the_entries(admin: Any, tiergate: Tiergate, tmp_path: Path) -> None:
    """Report in every form, entries and their store agree to the nano-dollar."""
    admin.clock.at = time.time()
    made = [attempt(model=f"m{n % 3}") for n in range(7)]
    async with open_ledger(admin.store, tmp_path / "ledger") as ledger:
        nano = 0
        for a in made:
            ledger.begin(a)
            nano += settle(ledger, a)
        await flushed(ledger)
    total = usd(nano)
    assert _last_row(await tiergate("report", "--by", "day,tier,model"))[-1] == total
    assert _last_row(await tiergate("report", "--by", ""))[-1] == total
    assert json.loads((await tiergate("report", "--format", "json")).stdout)["total"]["cost_usd"] == total
    focus = (await tiergate("report", "--format", "focus")).stdout.splitlines()
    assert focus[0].startswith("BilledCost,BillingAccountId,")
    assert sum(Decimal(line.partition(",")[0]) for line in focus[1:]) == Decimal(total)
    csv = (await tiergate("report", "--format", "csv", "--by", "model")).stdout.splitlines()
    assert [line.split(",")[0] for line in csv] == ["model", "m0", "m1", "m2"]
    last = _last_row(await tiergate("ledger", "entries"))
    assert (last[0], last[-1]) == ("7 in all", total)
    entries = json.loads((await tiergate("ledger", "entries", "--format", "json")).stdout)["data"]
    assert sum(e["cost_nano_usd"] for e in entries) == nano
    one = (await tiergate("ledger", "show", made[0].request_id)).stdout
    assert made[0].aid in one
    at = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(made[0].at))
    assert re.search(rf"\b{at}\d\d\dZ", one)
    assert usd(entries[0]["cost_nano_usd"]) in one
    assert "no entry" in (await tiergate("ledger", "show", "req_unknown", status=1)).stderr


async def test_the_audit_is_listed_and_verified(admin: Any, tiergate: Tiergate) -> None:
    """A broken chain is an exit status."""
    await tiergate("keys", "create", "x")
    assert "key.create" in (await tiergate("audit")).stdout
    assert "holds: 1 entries" in (await tiergate("audit", "verify")).stdout
    await admin.store.delete("{audit}:s")
    assert "does not hold" in (await tiergate("audit", "verify", status=1)).stderr


async def test_the_token_is_found_in_the_data_folder(admin: Any, tmp_path: Path) -> None:
    """As the gateway wrote it; without one the message says where it was looked for."""
    lonely = Tiergate(admin.url, None)
    missing = await lonely("keys", "list", "--data-dir", str(tmp_path / "none"), status=1)
    assert str(tmp_path / "none" / "admin-token") in missing.stderr
    (tmp_path / "admin-token").write_text(ADMIN + "\n")
    await lonely("keys", "list", "--data-dir", str(tmp_path))


async def test_a_gateway_that_is_not_there_is_a_sentence() -> None:
    """With the address, and what to try."""
    gone = await Tiergate("http://127.0.0.1:1")("keys", "list", status=1)
    assert "http://127.0.0.1:1" in gone.stderr
    assert "tiergate serve" in gone.stderr
    assert "--url" in (await Tiergate("file:///etc/passwd")("keys", "list", status=1)).stderr


@pytest.fixture
def redirector() -> Iterator[tuple[str, list[str]]]:
    """A server that sends everybody elsewhere and notes the paths it was asked for."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(302)
            self.send_header("location", "/stolen")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


async def test_the_token_follows_no_redirect(redirector: tuple[str, list[str]]) -> None:
    """It goes to the address given and nowhere else, proxies of the environment included."""
    url, seen = redirector
    await Tiergate(url)("keys", "list", status=1)
    assert seen == ["/admin/api/keys"]


async def test_the_real_command_works_in_a_process_of_its_own(admin: Any) -> None:
    """With a proxy in the environment, which it must not use."""
    environment = {"TIERGATE_URL": admin.url, "TIERGATE_ADMIN_TOKEN": ADMIN, "http_proxy": "http://127.0.0.1:1"}
    command = [sys.executable, "-m", "gateway.cli", "keys", "list", "--format", "json"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"data": []}


def _last_row(result: Result) -> list[str]:
    """The filled cells of a table's last row."""
    rows = [line for line in result.stdout.splitlines() if line.strip().startswith(("│", "┃"))]
    return [cell.strip() for cell in rows[-1].split("│") if cell.strip()]


async def test_a_bill_is_imported_from_a_file(admin: Any, tiergate: Tiergate, tmp_path: Path) -> None:
    """Differences as a table; exit status 1 while rows are unknown; the whole bill closes the period."""
    async with open_ledger(admin.store, tmp_path / "ledger") as ledger:
        ledger.begin(a := attempt())
        cost = settle(ledger, a)
        ledger.begin(b := attempt())
        settle(ledger, b, usage_source="estimated", settlement="failed")
        await flushed(ledger)
    bill = tmp_path / "acme.csv"
    bill.write_text(f"attempt_id,cost_usd\n{a.aid},{usd(cost + 1)}\n{'0' * 32},1\n")
    shown = (await tiergate("reconcile", "import", str(bill), status=1)).stdout
    assert "2 rows: 0 exact, 1 corrected, 0 changed meanwhile, 1 unknown" in shown
    assert usd(1) in shown
    bill.write_text(f"attempt_id,cost_usd\n{a.aid},{usd(cost + 1)}\n")
    day = time.strftime("%Y-%m-%d", time.gmtime(a.at))
    after = time.strftime("%Y-%m-%d", time.gmtime(a.at + 86_400))
    whole = ["--provider", "acme", "--from", day, "--to", after, "--format", "json"]
    done = json.loads((await tiergate("reconcile", "import", str(bill), *whole)).stdout)
    assert (done["exact"], done["corrected"]) == (1, 1)
    assert "acme.csv" in (await tiergate("reconcile", "status")).stdout
    bill.write_text("attempt_id\nx\n")
    assert "line 2: it has no cost_usd" in (await tiergate("reconcile", "import", str(bill), status=1)).stderr
    bill.write_text("attempt_id,cost_usd\n")
    assert "it has no rows" in (await tiergate("reconcile", "import", str(bill), *whole, status=1)).stderr


async def test_budgets_beyond_keys_are_set_and_listed(admin: Any, tiergate: Tiergate) -> None:
    """By what they are for; what is wrong is said by the gateway."""
    await tiergate("budgets", "set", "search", "--of", "team:search", "--usd", "500", "--soft")
    await tiergate("budgets", "set", "quick", "--of", "tier:fast", "--rpm", "60", "--rates-on-store-down", "local")
    shown = (await tiergate("budgets", "list")).stdout
    assert all(text in shown for text in ("team:search", "500.00", "soft", "tier:fast", "60"))
    listed = json.loads((await tiergate("budgets", "list", "--format", "json")).stdout)
    assert [rule["rates_on_store_down"] for rule in listed["data"]] == ["local", "allow"]
    await tiergate("budgets", "delete", "quick")
    listed = json.loads((await tiergate("budgets", "list", "--format", "json")).stdout)
    assert [rule["id"] for rule in listed["data"]] == ["search"]
    assert "needs its name" in (await tiergate("budgets", "set", "x", "--of", "team", "--usd", "1", status=1)).stderr
    slip = await tiergate("budgets", "set", "slip", "--of", "tier:fsat", "--rpm", "60")
    assert slip.stderr == "warning: the catalog has no tier 'fsat'; did you mean 'fast'?\n"


async def test_a_period_is_compared_with_the_prices_known_now(admin: Any, tiergate: Tiergate) -> None:
    """Day by day; nothing is booked unless told to."""
    period = ["prices", "rerate", "--from", "2026-11-01", "--to", "2026-11-04"]
    told = (await tiergate(*period)).stdout
    assert "0 attempts: $0.00 as booked, $0.00 as re-rated" in told
    assert "--book books it" in told
    assert "0 adjustments booked" in (await tiergate(*period, "--book")).stdout
    assert "want a day" in (await tiergate("prices", "rerate", "--from", "x", "--to", "y", status=2)).stderr
