"""What people should hear of: to the log, to the metrics, and signed to a webhook, again until it takes it."""

from __future__ import annotations

import asyncio
import hmac
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import msgspec

from gateway.background import end
from gateway.catalog.living import Vanished
from gateway.errors import GatewayError
from gateway.ledger.outbox import Alert
from gateway.log import get_logger
from gateway.money import usd
from gateway.telemetry.metrics import Metrics

Send = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
"""Posts a body with headers to a URL and gives the status. Raises GatewayError where nobody answers."""

TRIES = 6
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_MOST_WAITING = 1_000

_log = get_logger("alerts")


class Alerts:
    """Takes alerts at any time, from any part of the gateway; nobody waits for them to be told."""

    def __init__(
        self,
        url: str | None,
        secret: str | None,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        chance: random.Random,
        pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        """`url` is the webhook, None for none; `secret` signs what goes there; `pause_s` comes before a second try."""
        self._url = url
        self._secret = (secret or "").encode()
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._pause_s = pause_s
        self._waiting: asyncio.Queue[tuple[bytes, asyncio.Future[None]]] = asyncio.Queue(_MOST_WAITING)
        self._task: asyncio.Task[None] | None = None

    def tell(self, alert: Alert) -> asyncio.Future[None] | None:
        """Logs and counts an alert of the books, and queues it for the webhook.

        Gives what is done once the webhook took it, or did not after all tries; None where there is no webhook.
        """
        _log.warning("ledger_alert", **asdict(alert))
        self._metrics.budget_alerts.labels(alert.kind, str(alert.percent)).inc()
        return self._post({**asdict(alert), "spent_usd": usd(alert.spent_nano), "limit_usd": usd(alert.limit_nano)})

    def tell_of_model(self, gone: Vanished) -> None:
        """Logs and counts that a model in use has vanished, and queues it for the webhook."""
        _log.warning("catalog_alert", text=gone.text, **asdict(gone))
        self._metrics.catalog_alerts.labels("model_vanished", gone.deployment).inc()
        self._post({"kind": "model_vanished", "subject": gone.deployment, "text": gone.text, **asdict(gone)})

    def tell_of_credential(self, provider: str, seconds: float) -> None:
        """Logs and counts that a provider refuses its credential or quota, and queues it for the webhook."""
        text = f"{provider} refuses its credential, or its quota is spent; it rests for {seconds:.0f} s."
        _log.error("credential_alert", provider=provider, seconds=seconds, text=text)
        self._metrics.credential_alerts.labels(provider).inc()
        self._post({"kind": "credential_refused", "subject": provider, "text": text, "seconds": seconds})

    async def start(self, send: Send) -> None:
        """Begins to call the webhook, where there is one."""
        if self._url is not None:
            self._task = asyncio.create_task(self._run(self._url, send), name="alerts")

    async def close(self) -> None:
        """Ends the background work; what waits is in the log, and budgets' thresholds are told by another process."""
        if self._task is not None:
            await end(self._task)

    def _post(self, body: Mapping[str, Any]) -> asyncio.Future[None] | None:
        if self._url is None:
            return None
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((msgspec.json.encode({**body, "at": self._clock()}), told))
        except asyncio.QueueFull:
            _log.error("alert_dropped", subject=body["subject"])
            return None
        return told

    async def _run(self, url: str, send: Send) -> None:
        while True:
            body, told = await self._waiting.get()
            if not await self._deliver(url, body, send):
                _log.error("alert_not_delivered", tries=TRIES)
            told.set_result(None)

    async def _deliver(self, url: str, body: bytes, send: Send) -> bool:
        for number in range(TRIES):
            if number:
                pause = min(self._pause_s * 2 ** (number - 1), _LONGEST_PAUSE_S)
                await asyncio.sleep(pause * self._chance.uniform(0.8, 1.2))
            try:
                status = await send(url, body, self._headers(body))
            except GatewayError as error:
                _log.warning("alert_webhook_failed", why=error.kind.value)
                continue
            except Exception:  # whatever it is must not end the telling of all later ones
                _log.exception("alert_webhook_failed")
                continue
            if 200 <= status < 300:
                return True
            _log.warning("alert_webhook_failed", status=status)
        return False

    def _headers(self, body: bytes) -> dict[str, str]:
        """The signature covers the time, so that an old call cannot be played again, and is new with every try."""
        if not self._secret:
            return {"content-type": "application/json"}
        at = str(int(self._clock()))
        signed = hmac.new(self._secret, f"{at}.".encode() + body, sha256).hexdigest()
        return {"content-type": "application/json", "x-tiergate-signature": f"t={at},v1={signed}"}
