"""`tiergate prices rerate`: what booked attempts cost by the prices that are known now."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import typer

from gateway.cli.admin import DEFAULT_DATA_DIR, DEFAULT_URL, AdminApi, DataDir, Url
from gateway.money import usd


def rerate(
    from_: Annotated[str, typer.Option("--from", help="First day, UTC.")],
    to: Annotated[str, typer.Option("--to", help="End, not part of the period.")],
    model: Annotated[str | None, typer.Option(help="Only attempts of this model.")] = None,
    book: Annotated[bool, typer.Option("--book", help="Book the differences; otherwise only tell them.")] = False,
    url: Url = DEFAULT_URL,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compare booked costs with the prices known now, and book the differences as adjustments where told to."""
    admin = AdminApi(url, data_dir)
    sums: Counter[str] = Counter()
    day, end = _day(from_), _day(to)
    while day < end:
        following = day + timedelta(days=1)
        body = {"from": f"{day:%Y-%m-%d}", "to": f"{following:%Y-%m-%d}", "model": model, "book": book}
        sums.update(msgspec.json.decode(admin.ask("POST", "prices/rerate", body=body)))
        day = following
    booked, rerated = sums["booked_nano"], sums["rerated_nano"]
    typer.echo(f"{sums['attempts']:,} attempts: ${usd(booked)} as booked, ${usd(rerated)} as re-rated")
    what = f"{sums['corrected']:,} adjustments booked" if book else "nothing booked; --book books it"
    typer.echo(f"difference ${usd(rerated - booked)}; {what}")


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(f"want a day such as 2026-11-01, not {text!r}") from None
