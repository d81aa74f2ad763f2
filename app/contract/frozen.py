"""The one base of everything that crosses a process."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable value that refuses fields it does not know; NaN and infinity are not JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
