"""`tiergate doctor`."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from gateway.catalog.doctor import Finding, look_at_disk, look_at_providers, look_at_store
from gateway.catalog.snapshot import Snapshot
from gateway.cli.admin import DEFAULT_DATA_DIR, DataDir
from gateway.cli.catalog import load_or_exit, wide_console
from gateway.storage.embedded import EmbeddedStore
from gateway.upstream.client import Upstream
from gateway.upstream.engine import Engine
from gateway.upstream.sandbox import SANDBOX_HOST, SandboxTransport

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red", "unused": "dim"}


def doctor(
    catalog: Annotated[Path | None, typer.Option("--catalog", help="The document.")] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    all_: Annotated[bool, typer.Option("--all", help="Tell of providers without a key, too.")] = False,
) -> None:
    """Look over keys, providers, listed models, prices, clock, store and disk; exit status 1 where something fails."""
    snapshot = load_or_exit(catalog)
    findings = [Finding("warning", "catalog", text) for text in snapshot.warnings]
    findings += asyncio.run(_look(snapshot, _store_address(data_dir)))
    findings.append(look_at_disk(data_dir))
    table = Table("", "what", "finding")
    for found in findings:
        if all_ or found.level != "unused":
            style = _STYLES[found.level]
            table.add_row(f"[{style}]{found.level}[/{style}]", escape(found.subject), escape(found.text))
    wide_console().print(table)
    if any(found.level == "failed" for found in findings):
        raise typer.Exit(1)


async def _look(snapshot: Snapshot, store: str | None) -> list[Finding]:
    upstream = Upstream(Engine(), {SANDBOX_HOST: SandboxTransport()})
    try:
        found = await look_at_providers(snapshot, upstream, time.time)
    finally:
        await upstream.aclose()
    if store is None:
        return [*found, Finding("ok", "store", "the embedded one, not running now")]
    return [*found, await look_at_store(store)]


def _store_address(data_dir: Path) -> str | None:
    """The store named in the environment, else the embedded one's socket; None where that does not run."""
    named = os.environ.get("TIERGATE_REDIS_URL") or os.environ.get("REDIS_URL")
    socket = EmbeddedStore(data_dir).socket
    return named or (socket if Path(socket).exists() else None)
