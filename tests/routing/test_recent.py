"""The bounded memory of what was seen lately."""

from __future__ import annotations

from clocks import SetClock

from gateway.routing.recent import Recent


def test_the_last_value_is_remembered() -> None:
    """Each key has its own."""
    recent: Recent[tuple[str, str], str] = Recent(SetClock(0.0), kept_s=60)
    recent.put(("key", "session"), "p/a")
    recent.put(("key", "session"), "p/b")
    assert recent.get(("key", "session")) == "p/b"
    assert recent.get(("other", "session")) is None


def test_what_is_old_is_forgotten() -> None:
    """Putting a value again renews it."""
    clock = SetClock(0.0)
    recent: Recent[str, float] = Recent(clock, kept_s=60)
    recent.put("renewed", 1.0)
    recent.put("left", 1.0)
    clock.advance(30)
    recent.put("renewed", 2.0)
    clock.advance(30)
    assert recent.get("left") is None
    assert recent.get("renewed") == 2.0


def test_it_does_not_grow_without_end() -> None:
    """The oldest makes room for the newest; callers choose the keys."""
    recent: Recent[int, int] = Recent(SetClock(0.0), kept_s=60, most=3)
    for number in range(5):
        recent.put(number, number)
    recent.put(2, 2)
    recent.put(5, 5)
    assert [number for number in range(6) if recent.get(number) is not None] == [2, 4, 5]
