"""Whether an answer is what an OpenAI client expects, by the checking tool that lies beside the wire recordings.

Where the tool is absent nothing is checked here; tests that use it assert their own facts besides.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WIRE = Path(os.environ.get("TIERGATE_WIRE") or ROOT.parent / "shared" / "wire")


class Conformance:
    """Asserts on answers of the gateway. `request` is what was asked; it tells n, tools and include_usage."""

    def __init__(self) -> None:
        self._tool = _load(WIRE.parent / "tools" / "validate_openai.py")

    def chat(self, body: Any, request: dict[str, Any] | None = None) -> None:
        self._check("check_chat", body, request)

    def stream(self, raw: bytes | list[Any], request: dict[str, Any] | None = None) -> None:
        self._check("check_stream", raw, request or {"stream_options": None})

    def models(self, body: Any) -> None:
        self._check("check_models", body, None)

    def error(self, body: Any) -> None:
        self._check("check_error", body, None)

    def _check(self, name: str, value: Any, request: dict[str, Any] | None) -> None:
        if self._tool is not None:
            report = getattr(self._tool, name)(value, request)
            assert report.errors == []


def _load(path: Path) -> ModuleType | None:
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("wire_validate_openai", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module
