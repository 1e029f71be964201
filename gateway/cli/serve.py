"""`tiergate serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from gateway.server import run
from gateway.settings import Settings, slips


def serve(
    catalog: Annotated[Path | None, typer.Option(help="The catalog document.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes sharing the port.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Embedded store, write-ahead log and secrets.")] = None,
) -> None:
    """Run the gateway. Every option may also be given as TIERGATE_<OPTION>; docs/settings.md lists all settings."""
    given: dict[str, Any] = {
        "catalog": catalog,
        "host": host,
        "port": port,
        "workers": workers,
        "data_dir": data_dir,
    }
    try:
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = str(problem["loc"][0])
            typer.echo(f"tiergate: TIERGATE_{name.upper()}: {problem['msg']}", err=True)
        raise typer.Exit(2) from None
    for name, meant in slips(os.environ):
        typer.echo(f"tiergate: {name} is no setting and counts for nothing; did you mean {meant}?", err=True)
    raise typer.Exit(run(settings))
