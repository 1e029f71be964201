"""Operations on experiments, canaries and shadows."""

from __future__ import annotations

from gateway.admin.bodies import Nothing
from gateway.admin.noted import noted
from gateway.admin.operation import Call, Query, Reply, reply
from gateway.admin.reports import Period
from gateway.errors import CallerError, Kind, bad_request


class ExperimentPeriod(Period):
    """Which days; left out, those of this month until today."""


async def list_experiments(call: Call[Nothing, Query]) -> Reply:
    return reply({"data": call.desk.trials.listed()})


async def show_experiment(call: Call[Nothing, ExperimentPeriod]) -> Reply:
    start, end = call.query.bounds(call.desk.clock())
    if start.timestamp() % 86_400 or end.timestamp() % 86_400:
        raise bad_request("An experiment is reported by whole UTC days.", "from")
    title = call.path["name"]
    found = await call.desk.trials.report(call.caller.tenant, title, start, end)
    known = {row["experiment"] for row in call.desk.trials.listed()}
    if not found["arms"] and title not in known:
        raise CallerError(Kind.NOT_FOUND, f"No experiment '{title[:48]}' is in the catalog or was in this period.")
    return reply(found)


async def resume_experiment(call: Call[Nothing, Query]) -> Reply:
    title = call.path["name"]
    async with noted(call, "experiment.resume", f"experiment:{title[:48]}"):
        if not await call.desk.trials.resume(title):
            raise CallerError(Kind.NOT_FOUND, f"No canary '{title[:48]}' is stopped.")
    return reply({"experiment": title, "state": "running"})
