"""The base of all records that a run stores beside its trials."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """One attribute of a run."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @property
    def document(self) -> dict[str, Any]:
        """The record as JSON: the fields that were given."""
        return self.model_dump(mode="json", exclude_unset=True)
