"""Every setting of the process, from the environment (`TIERGATE_*`) or `tiergate serve`'s options."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_PREFIX = "TIERGATE_"
_ALIKE = 0.85
"""How much a name must be like a setting's to be taken for a slip; what Kubernetes sets for a Service is less so."""


class Settings(BaseSettings):
    """What differs from one installation to the next; what ops edit while it runs is in the catalog."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="ignore", frozen=True)

    catalog: Path | None = Field(
        default=None, description="The catalog document. Default: ./catalog.yaml, else the shipped one."
    )
    catalog_in: Literal["file", "store"] = Field(
        default="file",
        description="Where the catalog lives: in its file, or in the store, where `tiergate catalog publish` puts it "
        "for all gateways that share it; the file is then only what the first of them begins with.",
    )
    discover_every_hours: Annotated[float, Field(ge=0, le=720)] = Field(
        default=0,
        description="Hours after which a provider is asked again for its models; 0 asks nobody unasked: only by "
        "command or admin API.",
    )
    price_data: Path | None = Field(
        default=None,
        description="genai-prices' data.json or litellm's model map, from which prices of new models are suggested.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=4000, description="Port to listen on.")
    workers: Annotated[int, Field(ge=1, le=256)] = Field(default=1, description="Worker processes sharing the port.")
    data_dir: Path = Field(
        default=Path("data"), description="Embedded store, write-ahead log and secrets of this installation."
    )
    wal_fsync: Literal["group", "always"] = Field(
        default="group",
        description="When the write-ahead log is flushed to the disk: many records together within 20 ms, or each "
        "before its request goes on (`always`), which survives a power failure whole and costs each request the disk's "
        "time.",
    )
    archive_dir: Path | None = Field(
        default=None,
        description="Where closed hours of the journal are archived and read from; all gateways of a store must share "
        "it. Default: `archive` in the data directory with the embedded store, nowhere with a store of your own.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("redis_url", "TIERGATE_REDIS_URL", "REDIS_URL"),
        description="A Redis (6.2 or newer) or Valkey that replaces the embedded store: redis://, rediss://, unix://, "
        "redis+sentinel:// or redis+cluster://.",
    )
    admin_token: SecretStr | None = Field(
        default=None, description="Bearer token of the admin API; made at first start if unset."
    )
    app_key: SecretStr | None = Field(
        default=None, description="Bootstrap app key: all tiers, no limits; made if unset."
    )
    pepper: SecretStr | None = Field(default=None, description="Secret mixed into stored key hashes; made if unset.")
    alert_webhook: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        description="URL that budget alerts, contradictions in the books and vanished models are posted to.",
    )
    alert_secret: SecretStr | None = Field(
        default=None, description="Signs those posts (HMAC-SHA256), so that their receiver can trust them."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="One JSON object a line, or coloured text."
    )
    max_body_mb: Annotated[float, Field(gt=0, le=512)] = Field(
        default=50, description="Largest request body in MiB; larger ones get 413."
    )
    max_inflight: Annotated[int, Field(ge=1)] = Field(
        default=4000, description="Requests at once in one worker; more are shed with 503 and Retry-After."
    )
    drain_delay_s: Annotated[float, Field(ge=0, le=300)] = Field(
        default=0, description="Seconds after SIGTERM in which /readyz says no while requests are still taken."
    )
    drain_deadline_s: Annotated[float, Field(ge=0)] = Field(
        default=600, description="Seconds that running streams get to end after SIGTERM."
    )
    decisions_kept_hours: Annotated[int, Field(ge=0, le=720)] = Field(
        default=24, description="Hours for which routing decisions can be explained and simulated; 0 keeps none."
    )
    metrics_public: bool = Field(default=False, description="Serve /metrics without a key.")
    seed: int | None = Field(
        default=None, description="Seed of all randomness in routing; set it to reproduce decisions."
    )

    @field_validator("port", mode="before")
    @classmethod
    def _no_link(cls, given: object) -> object:
        """Not ours: Kubernetes tells pods of a Service named `tiergate` by TIERGATE_PORT=tcp://<address>:<port>.

        Source: https://kubernetes.io/docs/concepts/services-networking/service/ (read 2026-11-21).
        """
        is_link = isinstance(given, str) and given.startswith("tcp://")
        return cls.model_fields["port"].default if is_link else given

    @property
    def archive(self) -> Path | None:
        """Where the journal is archived; None for nowhere."""
        alone = self.data_dir / "archive" if self.redis_url is None else None
        return self.archive_dir or alone

    @property
    def max_body_bytes(self) -> int:
        return int(self.max_body_mb * 1024 * 1024)


def slips(environment: Iterable[str]) -> list[tuple[str, str]]:
    """Names of variables that are no setting but nearly one, each with what was probably meant."""
    known = [_PREFIX + name.upper() for name in Settings.model_fields]
    found = []
    for name in environment:
        if name.upper().startswith(_PREFIX) and name.upper() not in known:
            found += [(name, near) for near in difflib.get_close_matches(name.upper(), known, n=1, cutoff=_ALIKE)]
    return found
