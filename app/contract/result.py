"""What a job says at its end: of a model, or of inputs."""

from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter

from app.contract.confinement import Confinement
from app.contract.report import Report
from app.contract.screening import Screening

Result = Annotated[Report | Screening, Field(discriminator="kind")]
RESULT: TypeAdapter[Report | Screening] = TypeAdapter(Result)
R = TypeVar("R", Report, Screening)


def confined(result: R, confinement: Confinement) -> R:
    """The same result, naming the confinement under which it was made."""
    environment = result.environment.model_copy(update={"confinement": confinement})
    return result.model_copy(update={"environment": environment})
