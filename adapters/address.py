"""From a provider's base URL to an endpoint: what every adapter over HTTP does alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from gateway.types import Endpoint, Origin, Provider

_PORTS: Mapping[str, int] = {"http": 80, "https": 443}


def endpoint_at(
    provider: Provider, base_url: str, path: str, headers: Mapping[str, str], *, method: str = "POST"
) -> Endpoint:
    """The endpoint `path` (with its query, percent-encoded) below `base_url`; the provider's own headers win.

    Raises:
        ValueError: the base URL is not usable, saying which and why.
    """
    url = urlsplit(base_url)
    if url.scheme not in _PORTS or not url.hostname:
        raise ValueError(f"base_url {base_url!r} is not an http or https URL")
    if url.username is not None or url.password is not None:
        raise ValueError(f"base_url of {url.hostname} must not hold credentials; use api_key")
    if url.query or url.fragment:
        raise ValueError(f"base_url {base_url!r} must not have a query or a fragment")
    scheme: Literal["http", "https"] = "https" if url.scheme == "https" else "http"
    origin = Origin(
        scheme,
        url.hostname,
        url.port or _PORTS[scheme],
        allow_private=provider.allow_private,
        ca_file=provider.ca_file,
        client_cert=provider.client_cert,
    )
    merged = {**headers, **{name.lower(): value for name, value in provider.headers.items()}}
    return Endpoint(origin, method, url.path.rstrip("/") + path, tuple(merged.items()))
