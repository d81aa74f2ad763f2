"""What is chosen of an unlabelled pool for a person to label: nothing is said of the model, nothing trusted yet."""

from typing import Literal

from pydantic import Field

from app.contract.frozen import Frozen
from app.contract.options import ModelOptions
from app.contract.problem import Problem
from app.contract.report import Environment, ModelFacts

Strategy = Literal["energy", "random"]


class CurateOptions(ModelOptions):
    """Which images of an unlabelled pool a person is asked to label."""

    budget: int = Field(ge=1, description="images that a person can label")
    strategy: Strategy = Field(
        "random", description="energy: highest free energy, then least margin (EADA); random: drawn alike"
    )
    seed: int = Field(0, ge=0, lt=2**31)


class Pool(Frozen):
    """The images that could be chosen."""

    name: str
    digest: str
    n: int


class Chosen(Frozen):
    """One image that should be labelled."""

    name: str = Field(description="path in the folder or archive, or place in an .npz")
    energy: float = Field(
        description="free energy, minus the log-sum-exp of the logits; high: unlike what was learned"
    )
    margin: float = Field(le=0, description="second largest logit minus the largest; near 0: undecided")
    said: int = Field(description="class that the model gives it, which is no label")


Measure = Literal["statistics", "certainty"]


class Guess(Frozen):
    """How the normalisation was found without a label: the preset with the lowest number was taken."""

    by: Measure = Field(
        description="statistics: distance of the pool from what BatchNorm remembers of training; certainty: mean "
        "entropy of what the model says of the pool, nats"
    )
    tried: dict[str, float] = Field(description="of each preset")


class Curation(Frozen):
    """Everything that is said of one choice."""

    schema_version: Literal["1"] = "1"
    kind: Literal["curate"] = "curate"
    model: ModelFacts
    pool: Pool
    strategy: Strategy
    budget: int
    seed: int
    guess: Guess | None = Field(None, description="how the normalisation was found; None: the user named it")
    chosen: tuple[Chosen, ...] = Field(description="energy: the least margin first; random: as drawn")
    environment: Environment
    timings: dict[str, float]
    warnings: tuple[Problem, ...] = ()
    reproduce: str

    @property
    def said(self) -> frozenset[int]:
        """Classes that the model gives to some of the chosen."""
        return frozenset(one.said for one in self.chosen)

    @property
    def unsaid(self) -> tuple[int, ...]:
        """Classes that the model gives to none of the chosen."""
        return tuple(index for index in range(self.model.num_classes) if index not in self.said)
