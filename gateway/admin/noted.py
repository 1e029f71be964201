"""A change that stands in the audit before it happens, and once more where it then did not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from gateway.admin.operation import Call
from gateway.callers.records import STORE_AWAY
from gateway.errors import CallerError, CatalogError, GatewayUnavailable


@contextlib.asynccontextmanager
async def noted(call: Call[Any, Any], action: str, target: str, *, after: str = "") -> AsyncIterator[None]:
    """Notes that the caller does `action` to `target`, before what stands within; a refusal there notes that it failed.

    Where the store went away in the middle nobody knows what was done, and no failure is noted. `after` is the SHA-256
    of what comes of it.

    Raises:
        GatewayUnavailable, one of `STORE_AWAY`: it could not be noted, and nothing was done.
    """
    note = partial(
        call.desk.audit.append, call.caller, action, target, after=after, request_id=call.request_id, ip=call.ip
    )
    await note()
    try:
        yield
    except (CallerError, CatalogError):
        with contextlib.suppress(GatewayUnavailable, *STORE_AWAY):  # the caller is to hear of the refusal itself
            await note(outcome="failed")
        raise
