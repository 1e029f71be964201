"""What every part of the catalog document is made of: a strict mapping whose fields describe themselves."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Entry(BaseModel):
    """A mapping of the document: unknown keys and wrong types are refused; field docstrings describe it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)
