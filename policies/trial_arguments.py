"""Reading what stands beside `experiment`, `canary` and `shadow` in the catalog, strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from gateway.money import NANO_PER_USD
from gateway.types import Arm
from policies.base import Policy
from policies.canary import Canary
from policies.experiment import Experiment, Treatment
from policies.shadow import Period, Shadow

_TITLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,47}")
_SHARE = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")
_PERIODS: Mapping[str, Period] = {"hour": "hour", "day": "day", "month": "month", "total": "total"}
_EXPERIMENT = (
    "write {experiment: {name: tone, arms: {plain: {weight: 1}, warm: {weight: 1, params: {temperature: 1.0}}}}}"
)
_CANARY = "write {canary: {name: nano, models: [gpt-5-nano], share: 5%}}"
_SHADOW = "write {shadow: {name: next, to: gpt-5, share: 10%, budget: {usd: '5', per: day}}}"
_MOST_USD = 9_000_000


def experiment(arguments: object) -> Policy:
    """`{experiment: {name: size, arms: {small: {weight: 1, models: [a]}, large: {weight: 1, models: [b]}}}}`."""
    given = _fields(arguments, {"name", "arms"}, set(), _EXPERIMENT)
    title, arms = _title(given["name"], "name"), given["arms"]
    if not isinstance(arms, Mapping) or not 2 <= len(arms) <= 16:
        raise ValueError(f"arms must be a mapping of 2 to 16 arms by name; {_EXPERIMENT}")
    return Experiment(title, [_treatment(title, name, arm) for name, arm in arms.items()])


def canary(arguments: object) -> Policy:
    """`{canary: {name: n, models: [m], share: 5%, error_rate: 20%, latency: 2, least: 20}}`; three have defaults."""
    given = _fields(arguments, {"name", "models", "share"}, {"error_rate", "latency", "least"}, _CANARY)
    return Canary(
        _title(given["name"], "name"),
        _models(given["models"]),
        _share(given["share"], "share"),
        error_rate=_share(given.get("error_rate", "20%"), "error_rate"),
        latency=_number(given.get("latency", 2.0), "latency", 1.0, 100.0),
        least=int(_number(given.get("least", 20), "least", 1, 1_000_000)),
    )


def shadow(arguments: object) -> Policy:
    """`{shadow: {name: n, to: MODEL or PROVIDER/MODEL, share: 10%, budget: {usd: "5", per: day}}}`."""
    given = _fields(arguments, {"name", "to", "share", "budget"}, set(), _SHADOW)
    to = given["to"]
    if not isinstance(to, str) or not to:
        raise ValueError(f"to is {to!r}, not a model or deployment; {_SHADOW}")
    return Shadow(_title(given["name"], "name"), to, _share(given["share"], "share"), *_budget(given["budget"]))


def _treatment(title: str, name: object, arm: object) -> Treatment:
    given = _fields(arm, set(), {"weight", "models", "params"}, _EXPERIMENT)
    params = given.get("params", {})
    if not isinstance(params, Mapping) or not all(isinstance(field, str) and field for field in params):
        raise ValueError(f"the params of arm {name!r} must be request fields with their values; {_EXPERIMENT}")
    if {"model", "messages", "stream", "gateway"} & set(params):
        raise ValueError(f"the params of arm {name!r} must not change model, messages, stream or gateway")
    weight = _number(given.get("weight", 1), f"the weight of arm {name!r}", 0.0, 1e6)
    if not weight:
        raise ValueError(f"the weight of arm {name!r} is 0; give one above 0 or leave the arm out")
    models = _models(given["models"]) if "models" in given else ()
    return Treatment(Arm(title, _title(name, "an arm's name"), dict(params)), weight, models)


def _fields(value: object, required: set[str], optional: set[str], example: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not required <= set(value) <= required | optional:
        raise ValueError(f"got {value!r}; {example}")
    return value


def _title(value: object, what: str) -> str:
    if not isinstance(value, str) or not _TITLE.fullmatch(value):
        raise ValueError(f"{what} is {value!r}; want up to 48 letters, digits, '_', '.' and '-'")
    return value


def _models(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"models is {value!r}; write a list of models")
    return tuple(names)


def _share(value: object, what: str) -> float:
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    share = float(match[1]) / 100 if match else 0.0
    if not 0 < share <= 1:
        raise ValueError(f"{what} is {value!r}; write a percentage above 0 and up to 100%, as in 5%")
    return share


def _number(value: object, what: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError(f"{what} is {value!r}; it must be a number from {low:g} to {high:g}")
    return float(value)


def _budget(value: object) -> tuple[int, Period]:
    given = _fields(value, {"usd", "per"}, set(), _SHADOW)
    per = _PERIODS.get(str(given["per"]))
    if per is None:
        raise ValueError(f"the budget's per is {given['per']!r}; write one of {', '.join(_PERIODS)}")
    try:
        usd = Decimal(str(given["usd"]))
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or not 0 < usd <= _MOST_USD:
        raise ValueError(f"the budget's usd is {given['usd']!r}; write US dollars above 0, as in '5'")
    return int(usd * NANO_PER_USD), per
