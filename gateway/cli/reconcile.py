"""`tiergate reconcile`: the ledger against the providers' bills."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url, fail, print_json
from gateway.cli.catalog import wide_console
from gateway.ledger.bill import batches, read_bill
from gateway.money import usd

app = typer.Typer(help="Check the ledger against the providers' bills and correct it.", no_args_is_help=True)

Format = Annotated[Literal["table", "json"], typer.Option("--format", help="table or json.")]

_BATCH = 500
_SUMS = ("rows", "exact", "corrected", "moved", "unknown", "unknown_nano")
_MONEY = ("billed_nano", "booked_before_nano", "booked_after_nano")


@app.command("import")
def import_bill(
    file: Annotated[Path, typer.Argument(help="The bill: .csv with a header line, or .jsonl.")],
    provider: Annotated[
        str | None, typer.Option(help="Whose whole bill this is; then --from and --to are needed too.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="First day of the whole bill, UTC.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="End of the whole bill, not part of it.")] = None,
    format: Format = "table",
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Correct the ledger to a bill and tell every difference; exit status 1 where rows stay unknown."""
    whole = (provider, from_, to)
    if any(whole) and not all(whole):
        raise typer.BadParameter("--provider, --from and --to say together that this is a whole bill")
    form = file.suffix.lower().lstrip(".")
    if form not in ("csv", "jsonl"):
        raise typer.BadParameter(f"{file} must be a .csv or .jsonl file")
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = read_bill(lines, form=form)
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    except ValueError as error:
        fail(f"{file}: {error}")
    if all(whole) and not rows:
        fail(f"{file}: it has no rows; as a whole bill it would take every estimate of the period for not billed")
    admin = AdminApi(url, data_dir)
    total = _Total()
    for batch in batches(rows, _BATCH):
        body = {"name": file.name[:100], "rows": batch}
        total.add(msgspec.json.decode(admin.ask("POST", "reconcile/import", body=body)))
    if all(whole):
        period = {"provider": provider, "from": from_, "to": to}
        total.add(msgspec.json.decode(admin.ask("POST", "reconcile/close", body=period)))
    if format == "json":
        typer.echo(msgspec.json.format(msgspec.json.encode(total.as_dict())).decode())
    else:
        total.show()
    if total.sums["unknown"] or total.sums["moved"]:
        raise typer.Exit(1)


@app.command()
def status(format: Format = "table", url: Url = DEFAULT_URL, data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show the latest imports and what they corrected."""
    answer = AdminApi(url, data_dir).ask("GET", "reconcile")
    if format == "json":
        print_json(answer)
        return
    right = [Column(name, justify="right") for name in (*_SUMS[:-1], "billed USD", "before USD", "after USD")]
    table = Table("at", "by", "bill", *right)
    for run in msgspec.json.decode(answer)["data"]:
        at = datetime.fromtimestamp(run["at"], UTC).isoformat(timespec="seconds")
        numbers = [f"{run[name]:,}" for name in _SUMS[:-1]] + [usd(run[name]) for name in _MONEY]
        table.add_row(at, escape(run["by"]), escape(run["name"]), *numbers)
    wide_console().print(table)


class _Total:
    """The answers to all parts of a bill, as one."""

    def __init__(self) -> None:
        self.sums: dict[str, int] = dict.fromkeys(_SUMS, 0)
        self._unknown: list[str] = []
        self._groups: dict[tuple[str, str, str], dict[str, int]] = {}

    def add(self, answer: dict[str, Any]) -> None:
        for name in _SUMS:
            self.sums[name] += answer[name]
        self._unknown += answer["unknown_rows"]
        for group in answer["groups"]:
            sums = self._groups.setdefault(
                (group["day"], group["provider"], group["model"]), dict.fromkeys(("rows", *_MONEY), 0)
            )
            for name in sums:
                sums[name] += group[name]

    def as_dict(self) -> dict[str, Any]:
        names = ("day", "provider", "model")
        groups = [{**dict(zip(names, of, strict=True)), **sums} for of, sums in sorted(self._groups.items())]
        return {**self.sums, "unknown_rows": self._unknown, "groups": groups}

    def show(self) -> None:
        right = [Column(name, justify="right") for name in ("rows", "billed USD", "before USD", "difference USD")]
        table = Table("day", "provider", "model", *right)
        for of, sums in sorted(self._groups.items()):
            billed, before = sums["billed_nano"], sums["booked_before_nano"]
            table.add_row(*map(escape, of), f"{sums['rows']:,}", usd(billed), usd(before), usd(billed - before))
        wide_console().print(table)
        typer.echo(
            "{rows:,} rows: {exact:,} exact, {corrected:,} corrected, {moved:,} changed meanwhile, "
            "{unknown:,} unknown".format(**self.sums)
        )
        if self._unknown:
            typer.echo(f"unknown (${usd(self.sums['unknown_nano'])} in all): " + ", ".join(self._unknown[:20]))
