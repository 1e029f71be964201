"""The provider APIs that can be spoken. Adding one: its module, and its row here."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.base import Adapter

ADAPTERS: Mapping[str, Adapter] = {}
