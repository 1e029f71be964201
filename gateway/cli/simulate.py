"""`tiergate catalog simulate`: what a new document would have made of the requests that a gateway has served."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Column, Table

from gateway.catalog.learned import Learned
from gateway.catalog.load import Checked, read_catalog
from gateway.catalog.problems import InvalidCatalog
from gateway.catalog.simulate import FORMAT, Header, Line, Outcome, Simulation, simulate
from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url
from gateway.cli.catalog import wide_console
from gateway.money import usd
from gateway.routing.decision import Record

_BAD_CATALOG = 2


def simulate_catalog(
    new: Annotated[Path, typer.Argument(help="The document to try.")],
    last: Annotated[str, typer.Option(help="How far back to look, such as 90m, 24h or 7d.")] = "24h",
    tier: Annotated[str | None, typer.Option(help="Only requests of this tier.")] = None,
    at: Annotated[
        datetime | None, typer.Option(help="Plan for this time, UTC, as when a price of the future is in force.")
    ] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Read the decisions from this file.")] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the decisions in this file, for --from.")] = None,
    fail_on_move: Annotated[bool, typer.Option("--fail-on-move", help="Exit with 1 for any move, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Replay recorded decisions through another document: what moves, what is served no more, and what it costs.

    Exit status: 0 if every request is still served, 1 if one is not (or moved, with --fail-on-move), 2 if the document
    or the file of decisions cannot be used.
    """
    try:
        checked, now = Checked(read_catalog(new), str(new)), time.time()
        snapshot = checked.compile(os.environ, now)
    except InvalidCatalog as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(_BAD_CATALOG) from None
    planned_for = None if at is None else datetime.fromisoformat(f"{at.isoformat()}+00:00").timestamp()
    with contextlib.ExitStack() as stack:
        if from_ is not None:
            source = _file(stack, from_)
        else:
            source = AdminApi(url, data_dir).lines("decisions", {"last": last})
        lines = source if save is None else _copied(source, save, stack)
        header, records = _read(lines)
        report = simulate(
            records,
            snapshot,
            header.circumstances,
            tier=tier,
            at=planned_for,
            where_vanished=lambda gone: checked.compile(os.environ, now, Learned(vanished=gone)),
        )
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(_as_json(report, header, snapshot.version))).decode())
    else:
        _print(report, header.catalog, snapshot.version)
    raise typer.Exit(1 if report.unroutable or (fail_on_move and report.moved) else 0)


def _file(stack: contextlib.ExitStack, path: Path) -> Iterator[bytes]:
    try:
        return iter(stack.enter_context(path.open("rb")))
    except OSError as error:
        raise _unusable(f"{path} cannot be read: {error.strerror}") from None


def _copied(lines: Iterator[bytes], path: Path, stack: contextlib.ExitStack) -> Iterator[bytes]:
    try:
        kept = stack.enter_context(path.open("wb"))
    except OSError as error:
        raise _unusable(f"{path} cannot be written: {error.strerror}") from None
    for line in lines:
        kept.write(line)
        yield line


def _read(lines: Iterator[bytes]) -> tuple[Header, Iterator[Record]]:
    try:
        header = msgspec.json.decode(next(lines, b""), type=Header)
    except msgspec.DecodeError:
        header = Header("", "", {})
    if header.format != FORMAT:
        raise _unusable(f"these are no recorded decisions; the first line must say {FORMAT}")
    return header, _records(lines)


def _records(lines: Iterator[bytes]) -> Iterator[Record]:
    decoder = msgspec.json.Decoder(Line)
    for number, line in enumerate(lines, 2):
        try:
            yield decoder.decode(line).record
        except msgspec.DecodeError as error:
            raise _unusable(f"line {number} is no recorded decision: {error}") from None


def _unusable(message: str) -> typer.Exit:
    typer.echo(f"tiergate: {message}", err=True)
    return typer.Exit(_BAD_CATALOG)


def _print(report: Simulation, before: str, after: str) -> None:
    numbers = ("requests", "unchanged", "fallbacks differ", "moved", "unroutable")
    deltas = ("cost before", "cost after", "delta", "smaller context", "larger context")
    columns = [Column(name, justify="right") for name in (*numbers, *deltas)]
    table = Table("tier", *columns, title=f"{report.requests:,} decisions: catalog {before} → {after}")
    for name, outcome in sorted(report.by_tier.items()):
        served = (outcome.requests, outcome.unchanged, outcome.reordered)
        counts = (*served, outcome.moves.total(), outcome.unroutable.total())
        money = (usd(outcome.cost_before_nano), usd(outcome.cost_after_nano), _delta(outcome))
        context = (f"{outcome.context_smaller:,}", f"{outcome.context_larger:,}")
        table.add_row(escape(name), *(f"{count:,}" for count in counts), *money, *context)
    console = wide_console()
    console.print(table)
    for name, outcome in sorted(report.by_tier.items()):
        for (old, new), count in outcome.moves.most_common():
            console.print(escape(f"{name}: {count:,} from {old} to {new}"))
        for row, count in outcome.unroutable.most_common():
            console.print(escape(f"{name}: {count:,} of {row[0]} unroutable, {row[1]}: {outcome.examples[row]}"))
        if outcome.unpriced:
            console.print(escape(f"{name}: {outcome.unpriced:,} without a price, in neither sum"))


def _delta(outcome: Outcome) -> str:
    before, after = outcome.cost_before_nano, outcome.cost_after_nano
    if before == 0:
        return "" if after == 0 else "new"
    return f"{(after - before) / before:+.1%}"


def _as_json(report: Simulation, header: Header, after: str) -> dict[str, Any]:
    return {
        "catalog_before": header.catalog,
        "catalog_after": after,
        "requests": report.requests,
        "moved": report.moved,
        "unroutable": report.unroutable,
        "tiers": {name: _tier(outcome) for name, outcome in sorted(report.by_tier.items())},
    }


def _tier(outcome: Outcome) -> dict[str, Any]:
    return {
        "requests": outcome.requests,
        "unchanged": outcome.unchanged,
        "reordered": outcome.reordered,
        "moves": [{"from": old, "to": new, "requests": n} for (old, new), n in outcome.moves.most_common()],
        "unroutable": [
            {"from": row[0], "code": row[1], "requests": n, "example": outcome.examples[row]}
            for row, n in outcome.unroutable.most_common()
        ],
        "cost_before_usd": usd(outcome.cost_before_nano),
        "cost_after_usd": usd(outcome.cost_after_nano),
        "unpriced": outcome.unpriced,
        "context_smaller": outcome.context_smaller,
        "context_larger": outcome.context_larger,
    }
