"""The admin API of a running gateway, as the commands ask it."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlencode, urlsplit

import msgspec
import typer

from gateway.callers.bootstrap import ADMIN_TOKEN_FILE

Url = Annotated[str, typer.Option("--url", envvar="TIERGATE_URL", help="Address of the running gateway.")]
DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="TIERGATE_DATA_DIR", help="Where the gateway keeps its admin token.")
]
DEFAULT_URL = "http://127.0.0.1:4000"
DEFAULT_DATA_DIR = Path("data")

_TIMEOUT_S = 120


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes to the address given and nowhere else."""

    def redirect_request(self, *args: object) -> None:
        return None


class AdminApi:
    """One gateway's admin API. Whatever goes wrong ends the command with a sentence on standard error."""

    def __init__(self, url: str, data_dir: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            fail(f"--url must be like {DEFAULT_URL}, not {url!r}")
        if parts.scheme == "http" and not _is_local(parts.hostname):
            typer.echo(f"tiergate: warning: the admin token travels unencrypted to {parts.hostname}", err=True)
        self._url = url.rstrip("/")
        self._token = _token(data_dir)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)

    def ask(self, method: str, path: str, query: Mapping[str, str | None] | None = None, body: Any = None) -> bytes:
        """The answer's body. `path` is below /admin/api, percent-encoded; parameters that are None are left out."""
        with self._open(method, path, query, body) as response:
            answer: bytes = response.read()
            return answer

    def lines(self, path: str, query: Mapping[str, str | None] | None = None) -> Iterator[bytes]:
        """The lines of a long answer, as they come; parameters are those of `ask`."""
        with self._open("GET", path, query, None) as response:
            yield from response

    def chat(self, body: Any) -> tuple[int, bytes]:
        """Status and body of a chat completion that this token's key asks for."""
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        url, data = f"{self._url}/v1/chat/completions", msgspec.json.encode(body)
        request = urllib.request.Request(url, data, headers)  # noqa: S310  # http or https, see above
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except (urllib.error.URLError, OSError, ValueError) as error:
            fail(f"cannot reach the gateway at {self._url}: {getattr(error, 'reason', error)}")

    @contextlib.contextmanager
    def _open(
        self, method: str, path: str, query: Mapping[str, str | None] | None, body: Any
    ) -> Iterator[http.client.HTTPResponse]:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        url = f"{self._url}/admin/api/{path}" + (f"?{urlencode(given)}" if given else "")
        headers = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        data = None if body is None else msgspec.json.encode(body)
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310  # http or https, see above
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                yield response
        except urllib.error.HTTPError as error:
            with error:
                fail(_said(error.code, error.read()))
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            fail(f"cannot reach the gateway at {self._url}: {reason}. Is it running there ('tiergate serve', '--url')?")


def fail(message: str) -> NoReturn:
    """Ends the command."""
    typer.echo(f"tiergate: {message}", err=True)
    raise typer.Exit(1)


def print_json(body: bytes) -> None:
    """A JSON answer, indented."""
    typer.echo(msgspec.json.format(body).decode())


def warn(answer: Mapping[str, Any]) -> None:
    """The warnings of an answer, on standard error."""
    for warning in answer.get("warnings", ()):
        typer.echo(f"warning: {warning}", err=True)


def _token(data_dir: Path) -> str:
    given = os.environ.get("TIERGATE_ADMIN_TOKEN")
    if given:
        return given
    file = data_dir / ADMIN_TOKEN_FILE
    try:
        return file.read_text().strip()
    except OSError as error:
        fail(f"no admin token: set TIERGATE_ADMIN_TOKEN, or --data-dir to the gateway's ({file}: {error.strerror})")


def _said(status: int, body: bytes) -> str:
    """What an error answer says, in a sentence."""
    try:
        message = str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        message = "its answer is not Tiergate's; is --url right?"
    if status == 401:
        message += " (the token comes from TIERGATE_ADMIN_TOKEN or the data folder)"
    return f"the gateway answered {status}: {message}"


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
