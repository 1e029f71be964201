"""`tiergate ledger`: single entries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url, fail, print_json
from gateway.cli.catalog import wide_console
from gateway.cli.report import From, To
from gateway.money import usd

app = typer.Typer(help="Look into the ledger.", no_args_is_help=True)

Format = Annotated[Literal["table", "json"], typer.Option("--format", help="table or json.")]


@app.command()
def show(
    request_id: Annotated[str, typer.Argument(help="As in the answer's x-request-id header.")],
    format: Format = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Show every entry of a request: one an attempt, and corrections."""
    answer = AdminApi(url, data_dir).ask("GET", "ledger", {"request_id": request_id})
    if format == "json":
        print_json(answer)
        return
    entries = msgspec.json.decode(answer)["data"]
    if not entries:
        fail("there is no entry of this request (entries appear within a second of the answer)")
    for entry in entries:
        table = Table(show_header=False, title=f"attempt {entry['attempt_id']}")
        for name, value in {**entry, "at": _time(entry["at"])}.items():
            shown = ", ".join(f"{k}={v}" for k, v in value.items() if v) if isinstance(value, dict) else value
            table.add_row(name, escape("" if shown is None else str(shown)))
        table.add_row("cost USD", usd(entry["cost_nano_usd"]))
        wide_console().print(table)


@app.command("entries")
def list_entries(
    from_: From = None,
    to: To = None,
    format: Format = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List the entries of a period in the order they were booked, and their sum."""
    answer = AdminApi(url, data_dir).ask("GET", "ledger", {"from": from_, "to": to})
    if format == "json":
        print_json(answer)
        return
    entries: list[dict[str, Any]] = msgspec.json.decode(answer)["data"]
    right = [Column(name, justify="right") for name in ("input", "output", "cost USD")]
    table = Table("at", "request", "key", "tier", "deployment", *right, "usage from", "settlement")
    for entry in entries:
        who = (entry["request_id"], entry["key"], entry["tier"] or "", entry["deployment"])
        usage = entry["usage"]
        numbers = (str(usage["input"]), str(usage["output"]), usd(entry["cost_nano_usd"]))
        table.add_row(_time(entry["at"]), *map(escape, who), *numbers, entry["usage_source"], entry["settlement"])
    table.add_section()
    total = usd(sum(entry["cost_nano_usd"] for entry in entries))
    table.add_row(f"{len(entries)} in all", "", "", "", "", "", "", total, "", "", style="bold")
    wide_console().print(table)


def _time(at: float) -> str:
    """Seconds since the epoch as `2026-11-21T05:33:01.123Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
