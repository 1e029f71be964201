"""Imports point one way, and importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("adapters", "gateway", "policies")
LEAVES = {"gateway.types", "gateway.money", "gateway.errors", "gateway.settings", "gateway.log", "gateway.chat"}
MAY_NAME_HTTPX = {"gateway.app"}
"""create_app() takes a transport, so that tests can put their own in the engine's place."""


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for top in OURS:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path) -> Iterator[str]:
    """Every module that this one names in an import, those for type checking included."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in MODULES)


MODULES = modules()


def ours(name: str) -> list[str]:
    """The modules of ours that this one imports; a package that is only on the way to one does not count."""
    named = {target for target in imports(name, MODULES[name]) if target.split(".")[0] in OURS and target in MODULES}
    return sorted(t for t in named if not any(other.startswith(t + ".") for other in named))


@pytest.mark.parametrize("leaf", sorted(LEAVES))
def test_leaves_import_only_leaves(leaf: str) -> None:
    """The vocabulary stands on nothing but itself."""
    assert [name for name in ours(leaf) if name not in LEAVES] == []


@pytest.mark.parametrize("name", [name for name in MODULES if name.split(".")[0] in ("adapters", "policies")])
def test_adapters_and_policies_import_only_leaves_and_their_own_package(name: str) -> None:
    """Decisions and translations know nothing of sockets, clocks, stores or each other."""
    own = name.split(".")[0]
    assert [target for target in ours(name) if target not in LEAVES and target.split(".")[0] != own] == []


def test_only_upstream_imports_the_http_client() -> None:
    """One place opens connections to others."""
    users = {
        name
        for name, path in MODULES.items()
        if any(target.split(".")[0] in ("httpx", "httpcore", "requests", "aiohttp") for target in imports(name, path))
    }
    assert {name for name in users if not name.startswith("gateway.upstream")} <= MAY_NAME_HTTPX


def test_json_is_read_and_written_by_msgspec() -> None:
    """One JSON library decides what is JSON; the exceptions look for repeated names, or run where no request waits."""
    users = {name for name, path in MODULES.items() if {"json", "orjson"} & {*imports(name, path)}}
    assert users <= {"gateway.chat", "gateway.admin.operation"} | {
        name for name in MODULES if name.startswith("gateway.cli")
    }


_IMPORT_ALL = """
import gc, os, socket, sys, threading
before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
environment = dict(os.environ)
handlers = __import__("signal").getsignal
signals = {n: handlers(n) for n in range(1, 32) if n not in (9, 19)}
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
problems = []
if threading.active_count() != 1:
    problems.append(f"threads: {threading.enumerate()}")
if {n: handlers(n) for n in signals} != signals:
    problems.append("signal handlers changed")
if dict(os.environ) != environment:
    problems.append("environment changed")
open_sockets = [o for o in gc.get_objects() if isinstance(o, socket.socket) and o.fileno() >= 0]
if open_sockets:
    problems.append(f"sockets: {open_sockets}")
after = set(os.listdir("/proc/self/fd")) if before else set()
if len(after) > len(before):
    problems.append(f"files: {len(after) - len(before)} more are open")
print(*problems, sep="\\n", end="")
"""


def test_importing_has_no_effect(tmp_path: Path) -> None:
    """Importing every module starts no thread, opens nothing, prints nothing, writes nothing."""
    importable = [name for name in MODULES if not name.endswith(".__main__")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{_IMPORT_ALL}", *importable],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
