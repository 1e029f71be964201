"""`tiergate audit`: who changed what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url, fail, print_json
from gateway.cli.catalog import wide_console

app = typer.Typer(
    help="List who changed what, newest first; or verify that nothing of it was changed.", invoke_without_command=True
)


@app.callback()
def list_entries(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 100,
    format: Annotated[Literal["table", "json"], typer.Option(help="table or json.")] = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List changes, newest first."""
    if context.invoked_subcommand is not None:
        return
    answer = AdminApi(url, data_dir).ask("GET", "audit", {"limit": str(limit)})
    if format == "json":
        print_json(answer)
        return
    table = Table("#", "at", "actor", "role", "action", "target", "outcome", "from", "request")
    for entry in msgspec.json.decode(answer)["data"]:
        at = datetime.fromtimestamp(entry["at"], UTC).isoformat(timespec="seconds")
        names = ("actor", "role", "action", "target", "outcome", "ip", "request_id")
        table.add_row(str(entry["seq"]), at, *(escape(entry[name]) for name in names))
    wide_console().print(table)


@app.command()
def verify(url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Check the whole chain; exit status 1 where it does not hold."""
    verdict = msgspec.json.decode(AdminApi(url, data_dir).ask("GET", "audit/verify"))
    if not verdict["ok"]:
        fail(f"the audit chain does not hold: {verdict['problem']}")
    typer.echo(f"The audit chain holds: {verdict['entries']} entries, head {verdict['head'] or '(none)'}.")
