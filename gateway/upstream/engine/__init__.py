"""Our HTTP/1.1 client engine; README.md says why it exists and when to drop it."""

from gateway.upstream.engine.engine import Engine
from gateway.upstream.engine.errors import EngineError
from gateway.upstream.engine.limits import Limits
from gateway.upstream.engine.response import Response

__all__ = ["Engine", "EngineError", "Limits", "Response"]
