"""What every part of the catalog document is made of: strict mappings whose fields describe themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from gateway.types import Capability

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Token = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,512}$")]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Can = Annotated[Capability, Field(strict=False)]
Category = Literal["text", "speech"]


class Entry(BaseModel):
    """A mapping of the document: unknown keys and wrong types are refused; field docstrings describe it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)
