"""The report: every number with its n and interval, every skip with its reason, and how to run it again.

Two columns never mix. `verdict`, `outcome` and `repair` were decided without triggered samples;
`metrics.attack_success` and its neighbours are what triggered samples, if they were given, showed afterwards.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from app.contract.confinement import Confinement
from app.contract.findings import Skipped, Verdict
from app.contract.frozen import Frozen
from app.contract.options import SanitizeOptions
from app.contract.problem import Problem

Base64 = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$", max_length=2**20)]


class Outcome(StrEnum):
    """What became of the repair."""

    UNCHANGED = "unchanged"
    REPAIRED = "repaired"
    NOT_REPAIRED = "not_repaired"


class Estimate(Frozen):
    """A proportion with its 95 % Wilson interval."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0)


class BeforeAfter(Frozen):
    """The same proportion of the suspect model and of the model that is given back."""

    before: Estimate
    after: Estimate


class PairedChange(Frozen):
    """Mean change of accuracy on the same images, with a 95 % interval.

    An image counts whole, or in shares where it was graded, or measured in several views.
    """

    value: float
    low: float
    high: float
    n: int = Field(ge=0)
    lost: int = Field(
        ge=0, description="images that the original gets right, or in more views, or more clearly"
    )
    gained: int = Field(
        ge=0, description="images that the repaired model gets right, or in more views, or more clearly"
    )


class ClassAccuracy(Frozen):
    """One class of the reporting split."""

    index: int
    name: str
    accuracy: BeforeAfter


class Metrics(Frozen):
    """On images that taught nothing and whose accuracy chose nothing; perturbed, they may say if evidence is left."""

    clean_accuracy: BeforeAfter
    clean_change: PairedChange
    per_class: tuple[ClassAccuracy, ...]
    attack_success: BeforeAfter | None = Field(
        None, description="ASR; images already of the target class left out"
    )
    robust_accuracy: BeforeAfter | None = Field(
        None, description="RA: triggered images given their true class"
    )


class Normalisation(Frozen):
    """How pixels in [0, 1] become the model's input."""

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    found: bool = Field(
        description="chosen on the samples, by accuracy where they have labels; not named by the user"
    )
    tried: dict[str, float] = Field(default_factory=dict, description="preset: accuracy on the clean samples")


class ModelFacts(Frozen):
    """What was uploaded, and how it was understood."""

    name: str
    digest: str
    size: int = Field(description="bytes")
    format: str
    architecture: str = Field(description="name:argument=value,…")
    identified: bool = Field(description="found from keys and shapes, not named by the user")
    num_classes: int
    input_shape: tuple[int, int, int] = Field(description="channels, height, width")
    parameters: int
    filters: int = Field(description="filters that carry a mask")
    normalisation: Normalisation


class SampleFacts(Frozen):
    """The clean samples and how they were divided."""

    name: str
    digest: str
    n: int
    class_names: tuple[str, ...]
    per_class: tuple[int, ...]
    fit: int
    select: int
    report: int
    mirrors: bool = Field(
        default=True, description="the suspect knows mirrored images, so they trained and judged as well"
    )


class TriggeredFacts(Frozen):
    """Samples that carry a known trigger; they evaluated, and decided nothing."""

    name: str
    digest: str
    n: int
    n_evaluated: int = Field(description="those whose true class is not the target")


class Epoch(Frozen):
    """One pass over the fitting split."""

    number: int
    lr: float
    loss: float
    accuracy: float = Field(description="of the moving model while it trains")
    held_accuracy: float = Field(description="eval mode, fitting split, no augmentation")
    label_shares: tuple[float, ...] = Field(description="share of predictions per class, eval mode")


class LayerMasks(Frozen):
    """The filter masks of one parameter."""

    parameter: str
    filters: int
    pruned: int
    histogram: tuple[int, ...] = Field(description="counts in 20 equal bins of [0, 1]")


class Candidate(Frozen):
    """One operating point. The selecting split says what it costs, images graded by margin, in several views."""

    rung: Literal["prune", "relearn"] = Field(
        "prune", description="relearn: after pruning, the other weights were relearned"
    )
    share: float | None = Field(
        None, description="of the way from pruned to relearned weights; None: not relearned"
    )
    rate: float | None = Field(None, description="of the usual learning rate; None: not relearned")
    depth: float | None = Field(
        None, description="of the layers, from the first that runs, that learned; None: not relearned"
    )
    taught_again: bool = Field(
        default=False,
        description="accuracy and changes are those of weights that the fitting images taught; what is asked for "
        "evidence, and given back, was relearned alike and as far, and the selecting ones taught it as well",
    )
    threshold: float | None = Field(description="filters with a mask at or below are pruned; None: none were")
    pruned: int
    accuracy: Estimate
    change: PairedChange
    worst_class: int
    worst_class_change: float
    worst_class_allowed: float = Field(0.2, description="what it may lose: the budget and one image")
    within_budget: bool
    perturbation_success: float | None = Field(
        None,
        description="of the suspect's own perturbations, on images that taught it nothing: the selecting split, or "
        "the reporting one where it was taught again; None: not measured",
    )
    pursued: float | None = Field(
        None, description="of those that followed the repaired model, on the same images; None: not measured"
    )
    perturbation_size: float | None = Field(
        None, description="smallest that a fresh recovery finds, beside the suspect's other classes"
    )
    evidence: float | None = Field(None, description="label shift that remains; None: not measured")
    passes: bool = False
    attack_success: float | None = Field(None, description="evaluation only; of what would be given back")


class Firm(Frozen):
    """A perturbation so strong that it leads nearly all images it was fitted to; of a patch, anything in its place."""

    times: float = Field(description="as strong as it was found, at most 2; of a patch, as large")
    success: Estimate = Field(description="on the suspect model, of held-out images of other classes")
    after: Estimate | None = Field(None, description="the same on the model that is given back")


class Perturbation(Frozen):
    """The smallest perturbation that was found to turn clean images into one class. Not "the trigger"."""

    target_class: int | None = Field(description="None: into several classes, any but the image's own")
    form: Literal["patch", "dense", "warp", "recalled"]
    size: float | None = Field(
        description="patch: sum of the mask, pixels; dense: L2 norm of pixels in [0, 1]; warp: root mean square "
        "of how far pixels look, pixels; recalled, from the statistics of training: L2 norm; None: none was found"
    )
    relative_size: float = Field(
        description="over the median of the other classes, same form; of warps the root of that; "
        "1 for what was recalled, which aims at no class and so has nothing to be compared with"
    )
    success: Estimate = Field(description="on the suspect model, of held-out images of other classes")
    after: Estimate | None = Field(None, description="the same on the model that is given back")
    firm: Firm | None = Field(
        None,
        description="the same, stronger or larger: the smallest that works barely does; suspected classes only",
    )
    pictures: tuple[Base64, ...] = Field(
        (), description="PNG: the perturbation, then clean images with it; suspected classes only"
    )


class LabelShares(Frozen):
    """Share of clean predictions per class."""

    suspect: tuple[float, ...]
    unlearned: tuple[float, ...]
    repaired_unlearned: tuple[float, ...] | None = Field(
        None, description="the repaired model, unlearned again"
    )


class Repair(Frozen):
    """The change to the model, and the candidates it was chosen from."""

    method: str
    pruned: int
    filters: int
    relearned: int = Field(0, description="numbers that relearning changed, beside pruned filters")
    threshold: float | None
    chosen: int | None = Field(description="index into candidates")
    best_candidate: int | None = Field(None, description="when not repaired: the least bad, offered beside")
    reason: str
    candidates: tuple[Candidate, ...]


class Environment(Frozen):
    """What the numbers depend on, besides the inputs."""

    product: str = Field(description="version of model-sanitizer")
    python: str
    torch: str
    platform: str
    device: str
    precision: str
    memory_format: str
    threads: int
    confinement: Confinement = Field(
        default=Confinement(),
        description="of the process that opened the files; without layers where it was not",
    )


class Report(Frozen):
    """Everything that is said of one job."""

    schema_version: Literal["1"] = "1"
    kind: Literal["sanitize", "detect"] = "sanitize"
    model: ModelFacts
    samples: SampleFacts
    triggered: TriggeredFacts | None = None
    verdict: Verdict
    outcome: Outcome
    metrics: Metrics
    repair: Repair
    unlearning: tuple[Epoch, ...]
    recovering: tuple[Epoch, ...]
    label_shares: LabelShares
    perturbations: tuple[Perturbation, ...] = ()
    masks: tuple[LayerMasks, ...]
    options: SanitizeOptions
    seed: int
    environment: Environment
    timings: dict[str, float] = Field(
        description="seconds per stage; the only part that differs between equal runs"
    )
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[Problem, ...] = ()
    result_digest: str = Field(description="SHA-256 of the model that is given back")
    reproduce: str
