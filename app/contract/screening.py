"""What is said of inputs that may carry a trigger: a score each, and decisions at stated false-alarm rates."""

from typing import Literal

from pydantic import Field

from app.contract.findings import Skipped
from app.contract.frozen import Frozen
from app.contract.options import Detector, SanitizeOptions
from app.contract.problem import Problem
from app.contract.report import Environment, Epoch, ModelFacts, SampleFacts


class Suspects(Frozen):
    """The inputs that were looked at."""

    name: str
    digest: str
    n: int


class Scored(Frozen):
    """One input."""

    name: str = Field(description="path in the folder or archive, or place in an .npz")
    said: int = Field(description="class that the model gives it")
    score: float = Field(description="large: suspicious; what it measures is said by `detector`")
    p_value: float = Field(gt=0, le=1, description="how often a clean image scores at least as high")


class Decision(Frozen):
    """All inputs above one bound."""

    rate: float = Field(description="of clean images that are flagged, at most, in the long run")
    bound: float | None = Field(
        description="None: too few clean samples to promise that rate; nothing is flagged"
    )
    flagged: int
    expected_false_alarms: float = Field(description="if every input were clean")
    chance: float = Field(ge=0, le=1, description="of so many flagged, or more, if every input were clean")


class Screening(Frozen):
    """Everything that is said of one set of inputs."""

    schema_version: Literal["1"] = "1"
    kind: Literal["screen"] = "screen"
    model: ModelFacts
    samples: SampleFacts
    suspects: Suspects
    detector: Detector = Field(
        "margin",
        description="repair: by how many nats a repaired model departs from what the model says (Kullback-Leibler "
        "divergence); margin: by how much unlearned models and backdoor experts still say what the model says, in "
        "spreads; five_metrics: how unlike those of clean images the answers to mixed and noisy copies are",
    )
    forwards: int = Field(description="images that a model is asked about for each input")
    decisions: tuple[Decision, ...]
    scored: tuple[Scored, ...] = Field(description="most suspicious first")
    calibrated_on: int = Field(description="clean images that fitted nothing")
    unlearning: tuple[Epoch, ...]
    options: SanitizeOptions
    seed: int
    environment: Environment
    timings: dict[str, float]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[Problem, ...] = ()
    reproduce: str
