"""References to secrets: `env:NAME` and `file:/path`. A document never holds the secret itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.types import Secret

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:/[!-~][ -~]{0,1023}")
_VISIBLE = re.compile(r"[!-~]+")
_MAX_BYTES = 16 * 1024


class SecretMissing(Exception):
    """A reference that leads nowhere now. The text says why and what to do, and never shows a secret."""


def check_reference(text: str) -> str:
    """The reference, if it is one.

    Raises:
        ValueError: it is not; the text itself is not repeated, since it may be the secret.
    """
    if not _REFERENCE.fullmatch(text):
        raise ValueError(
            "must be a reference, env:NAME or file:/path (the value is not shown, since it may be a secret); "
            "put the secret into the environment or a file and name that here"
        )
    return text


def resolve_reference(reference: str, env: Mapping[str, str]) -> Secret:
    """The secret that a reference leads to.

    Raises:
        SecretMissing: the variable or file is missing, empty or cannot be a header's value.
    """
    kind, _, place = reference.partition(":")
    if kind == "env":
        text, fix = env.get(place, ""), f"set {place}"
    else:
        text, fix = _read(Path(place)), f"write it to {place}"
    text = text.strip()
    if not text:
        raise SecretMissing(fix)
    if not _VISIBLE.fullmatch(text):
        raise SecretMissing(f"{fix} as one line of printable ASCII; it holds blanks or other characters")
    return Secret(text)


def secret_files(references: Iterable[str | None]) -> list[str]:
    """The paths among the references."""
    return [text.removeprefix("file:") for text in references if text is not None and text.startswith("file:")]


def stamps(files: Iterable[str]) -> dict[str, int | None]:
    """When each file was last changed, in nanoseconds since the epoch; None for one that is not there."""
    return {file: _changed_at(file) for file in files}


def exposed(reference: str | None) -> str | None:
    """Why a secret's file is too open, or None."""
    if reference is None or not reference.startswith("file:"):
        return None
    path = Path(reference.removeprefix("file:"))
    try:
        mode = path.stat().st_mode & 0o777
    except OSError:
        return None
    return f"{path} can be read by every user (mode {mode:04o}); chmod 640 it" if mode & 0o007 else None


def _changed_at(file: str) -> int | None:
    try:
        return Path(file).stat().st_mtime_ns
    except OSError:
        return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise SecretMissing(f"{path} cannot be read ({reason})") from None
