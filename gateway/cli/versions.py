"""`tiergate catalog publish, history, diff, rollback`: versions of the document of a running gateway."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from gateway.catalog.diff import describe_changes
from gateway.catalog.load import check_text, read_catalog
from gateway.catalog.problems import InvalidCatalog
from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url, fail
from gateway.cli.catalog import wide_console
from gateway.cli.keys import Format

Note = Annotated[str, typer.Option(help="Why; stands in the history.")]


def publish(
    file: Annotated[Path, typer.Argument(help="The document.")],
    note: Note = "",
    expected: Annotated[str | None, typer.Option(help="Only if this version is in force now.")] = None,
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Put a document in force on every process of a gateway; one with any problem changes nothing."""
    body = {"document": _text(file), "note": note, "name": file.name[:200]}
    if expected is not None:
        body["expected"] = expected
    answer = msgspec.json.decode(AdminApi(url, data_dir).ask("POST", "catalog/publish", body=body))
    _published(answer)


def rollback(
    version: Annotated[str, typer.Argument(help="The version to go back to, as the history names it.")],
    note: Note = "",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Put a former version in force again."""
    body = {"version": version, "note": note}
    _published(msgspec.json.decode(AdminApi(url, data_dir).ask("POST", "catalog/rollback", body=body)))


def history(
    limit: Annotated[int, typer.Option(help="How many versions.")] = 20,
    format: Format = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """List which version came into force when and by whom, and what each process serves by now."""
    answer = AdminApi(url, data_dir).ask("GET", "catalog/history", {"limit": str(limit)})
    if format == "json":
        typer.echo(msgspec.json.format(answer).decode())
        return
    found = msgspec.json.decode(answer)
    table = Table("version", "in force from (UTC)", "by", "note")
    for row in found["data"]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["at"]))
        table.add_row(*map(escape, (row["version"], at, row["by"], row["note"])))
    wide_console().print(table)
    for member in found["processes"]:
        typer.echo(
            f"{member['name']} serves by {member['version']}" + (": a newer one was refused" * bool(member["problem"]))
        )


def diff(
    first: Annotated[str, typer.Argument(help="A file or a kept version: the earlier one.")],
    second: Annotated[str | None, typer.Argument(help="The later one. Default: what is in force.")] = None,
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Say in sentences what differs between two documents, and what it means for cost."""
    if second is not None and Path(first).is_file() and Path(second).is_file():
        try:
            before, after = (check_text(read_catalog(Path(name)), name)[1] for name in (first, second))
        except InvalidCatalog as error:
            fail(str(error))
        lines = describe_changes(before, after, time.time(), {})
    elif second is not None or not Path(first).is_file():
        query = {"from": first, "to": second}
        lines = msgspec.json.decode(AdminApi(url, data_dir).ask("GET", "catalog/diff", query))["data"]
    else:
        body = {"document": _text(Path(first)), "name": Path(first).name[:200]}
        lines = msgspec.json.decode(AdminApi(url, data_dir).ask("POST", "catalog/diff", body=body))["data"]
    for line in lines or ["no difference"]:
        typer.echo(line)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {getattr(error, 'strerror', 'not UTF-8')}")


def _published(answer: dict[str, object]) -> None:
    for warning in answer["warnings"] if isinstance(answer["warnings"], list) else ():
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"catalog {answer['version']} is in force")


def add_to(app: typer.Typer) -> None:
    """Adds these commands to `tiergate catalog`."""
    for command in (publish, history, diff, rollback):
        app.command()(command)
