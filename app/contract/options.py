"""Every option of a job, with its default, its bound and its source. Defaults live here and nowhere else.

`fidelity="paper"` runs RNP as its authors' code does (Li et al., ICML 2023, official repository at eeae192), oddities
included; `fidelity="service"` runs it as we found it to work on nets that the paper did not tune for. `PAPER` lists
every deviation; docs/decisions gives the reasons.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from app.contract.frozen import Frozen


class SplitOptions(Frozen):
    """How the clean samples are divided, once, stratified by class and seeded."""

    fit: float = Field(0.5, gt=0, lt=1, description="share that unlearning and recovering see")
    select: float = Field(
        0.3, gt=0, lt=1, description="share that chooses the operating point, then teaches; the rest reports"
    )


class UnlearnOptions(Frozen):
    """Stage 1, neuron unlearning: ascent on the clean loss (RNP §3.2)."""

    lr: float = Field(
        0.005, gt=0, le=1
    )  # half of the official: small nets jump past the useful region otherwise
    momentum: float = Field(0.9, ge=0, lt=1)  # official
    weight_decay: float = Field(5e-4, ge=0)  # official; its sign is not flipped
    milestones: tuple[int, ...] = ()  # a falling rate leaves slow nets stuck half way
    max_epochs: int = Field(40, ge=1, le=500)
    batch_size: int = Field(128, ge=1, le=4096)  # official
    stop_accuracy: float = Field(0.20, ge=0, lt=1)  # official, for 10 classes
    augment: bool = True  # official: RandomCrop(32, 4) and a mirror in every stage
    batch_statistics: bool = True  # official: model.train(), BatchNorm normalises by the batch
    dropout: bool = False  # blurs which neurons move
    clip_norm: float | None = Field(
        20.0, gt=0
    )  # the official bound, applied after backward() so that it clips
    stop_on: Literal["training", "held"] = (
        "training"  # official; stopping on eval-mode accuracy ranks filters worse
    )


class RecoverOptions(Frozen):
    """Stage 2, filter recovering: descent on the clean loss through the filter masks alone (RNP §3.3)."""

    lr: float = Field(
        0.05, gt=0, le=10
    )  # a quarter of the official: masks stay in order instead of saturating at 0
    momentum: float = Field(0.9, ge=0, lt=1)  # official
    alpha: float = Field(0.2, gt=0, le=1)  # official; scales the loss, so the effective rate is lr·alpha
    epochs: int = Field(20, ge=1, le=500)  # official
    batch_size: int = Field(128, ge=1, le=4096)  # official
    augment: bool = True  # official
    batch_statistics: bool = True  # official
    dropout: bool = False
    decimals: int | None = Field(None, ge=1, le=8)  # masks keep float32; the official file has four decimals


# What `fidelity="paper"` changes back to the official code, where the service deviates.
PAPER: dict[str, dict[str, Any]] = {
    "unlearn": {
        "lr": 0.01,  # main.py, --unlearning_lr
        "milestones": (10, 20),  # epochs at which the rate falls tenfold
        "max_epochs": 21,  # range(0, 20 + 1)
        "dropout": True,  # model.train()
        "clip_norm": None,  # the official code clips before backward(), which is no clipping at all
    },
    "recover": {"lr": 0.2, "dropout": True, "decimals": 4},
    "evidence": {"seeds": 1},
    "relearn": {"steps": 0},  # the paper prunes and stops there
    "prune": {"threshold_step": 0.05},  # arange(0, .90 + .05, .05)
}


class PruneOptions(Frozen):
    """Stage 3: the operating point, chosen without any triggered sample."""

    accuracy_budget: float = Field(
        0.02, ge=0, le=0.5, description="clean accuracy that a repair may cost, absolute"
    )
    class_budget: float = Field(
        0.2, ge=0, le=1, description="accuracy that the worst class may lose, absolute, and one image besides"
    )
    max_threshold: float = Field(0.9, gt=0, le=1)  # official sweep
    threshold_step: float | None = Field(
        None,
        ge=0.001,
        le=0.5,
        description="of the published grid; None: thresholds at growing ranks of the masks",
    )


class HurryOptions(Frozen):
    """The first search, of which the verdict reads relative sizes; the null was made with it."""

    steps: int = Field(60, ge=1, le=5000)
    batch_size: int = Field(16, ge=1, le=1024)


class PerturbationOptions(Frozen):
    """Trigger recovery: the smallest perturbation that turns clean images into a class."""

    steps: int = Field(150, ge=1, le=5000, description="of each form; less where nothing shrinks any more")
    patience: int = Field(30, ge=1, description="steps without a smaller perturbation that end the search")
    batch_size: int = Field(32, ge=1, le=1024, description="images, each perturbed toward every class")
    success: float = Field(0.9, gt=0, le=1, description="of other classes' images, before size counts")
    max_classes: int = Field(
        10, ge=2, le=200, description="the most suspected ones; the others are a reference"
    )
    hurried: HurryOptions = HurryOptions()


class StatisticsOptions(Frozen):
    """What the statistics of BatchNorm hold beyond the clean samples, sought as one change of the images."""

    steps: int = Field(60, ge=0, le=5000, description="0: this witness is not heard")
    batch_size: int = Field(64, ge=2, le=1024, description="images that are changed at once")
    lr: float = Field(2 / 255, gt=0, le=1, description="Adam's, of pixels in [0, 1]; cosine to 0")


class GentleOptions(Frozen):
    """The last round of relearning, where all others cost too much: it leaves more asleep."""

    lr: float = Field(0.0005, gt=0, le=1)
    steps: int = Field(200, ge=1, le=5000)
    hints_perturbed: float = Field(0.0, ge=0, le=100)


class RelearnOptions(Frozen):
    """The weights, taught to ignore the perturbations that were recovered from the suspect."""

    lr: float = Field(0.002, gt=0, le=1)  # Adam's; at .0005 a backdoor falls asleep and is woken; cosine to 0
    steps: int = Field(300, ge=0, le=5000, description="0: this rung is not tried")
    features: float = Field(2.0, ge=0, le=100, description="weight of the features beside the answers")
    hints: float = Field(
        10.0, ge=0, le=100, description="weight of what enters some layers before the last, on clean images"
    )
    hints_perturbed: float = Field(10.0, ge=0, le=100, description="the same, on perturbed ones")
    pursuit: float = Field(
        0.75, ge=0, le=1, description="of the steps after the first round that show what follows"
    )
    gently: GentleOptions = GentleOptions()
    depth: float = Field(
        0.5, gt=0, le=1, description="of the layers, the first to run, that learn where all is too dear"
    )
    slower: float = Field(
        0.5, gt=0, le=1, description="of the rate, where that is too dear as well; 1: this is not tried"
    )
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0, 0.9, 0.8, 0.7, 0.6, 0.5),
        max_length=20,
        description="of the way that was learned more slowly, tried until one is affordable",
    )
    batch_size: int = Field(
        40, ge=1, le=4096, description="clean images, as many mixtures of them, as many perturbed"
    )
    augment: bool = True


class EvidenceOptions(Frozen):
    """What counts as evidence, before a repair and after it."""

    seeds: int = Field(3, ge=1, le=50, description="unlearnings that are averaged; one alone is too noisy")
    false_alarms: float = Field(
        0.05, gt=0, lt=1, description="rate among clean nets at which a model is called backdoored"
    )
    suspicion: float = Field(
        0.1, gt=0, lt=1, description="rate among clean nets at which a model is suspicious, and repaired"
    )
    clears: float = Field(
        0.5,
        gt=0,
        le=1,
        description="share of clean nets that must look as suspicious for a model to be called clean",
    )
    label_shift: float = Field(
        0.8, gt=0, le=2, description="of a repaired model when it is unlearned; evidence above it"
    )
    relative_size: float = Field(
        0.5, gt=0, le=1, description="of a repaired model's smallest perturbation; evidence below it"
    )
    success: float = Field(
        0.05,
        ge=0,
        le=1,
        description="that the suspect's perturbations may keep after a repair, beyond what clean images do; rounded up "
        "to a whole image where it allows at least one",
    )
    pursued: float = Field(
        0.25,
        ge=0,
        le=1,
        description="success of those that follow a repaired model, beyond what clean images do; rounded alike",
    )
    quiet: float = Field(
        0.1, ge=0, le=1, description="success of those beyond which another repair is tried as well"
    )


class ExpertOptions(Frozen):
    """Backdoor experts: copies that are taught wrong labels until they have lost the clean task (BaDExpert §3.2)."""

    lr: float = Field(
        2e-4, gt=0, le=1
    )  # Adam's; official 1e-4, for ResNet-18 and labels that are moved by one
    batch_size: int = Field(64, ge=1, le=4096)
    max_epochs: int = Field(40, ge=1, le=500)  # official: one, on 2,000 images
    stop_accuracy: float = Field(0.20, ge=0, lt=1)  # official
    augment: bool = True


class Grid(Frozen):
    """What the five metrics try on one input."""

    boxes: tuple[float, ...] = Field(description="sides of the exchanged centre, as shares of the image's")
    noises: tuple[float, ...] = Field(description="standard deviations, of pixels in [0, 1]")
    partners: int = Field(ge=1, description="clean images that parts are exchanged with")
    draws: int = Field(ge=1, description="of noise, at each strength")

    @property
    def forwards(self) -> int:
        """What one input costs, in images that the model is asked about."""
        return 1 + 2 * len(self.boxes) * self.partners + len(self.noises) * self.draws


PUBLISHED = Grid(  # official repository, rob_sens_check.py
    boxes=(0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9),
    noises=(0.001, 0.003, 0.005, 0.007, 0.01, 0.03, 0.05, 0.07, 0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0),
    partners=30,
    draws=30,
)
REDUCED = Grid(
    boxes=(0.2, 0.35, 0.5, 0.65, 0.8, 0.9), noises=(0.01, 0.03, 0.1, 0.3, 0.5, 1.0), partners=10, draws=5
)


Detector = Literal["repair", "margin", "five_metrics"]


class ScreenOptions(Frozen):
    """Backdoor sample detection: how inputs are scored."""

    detector: Detector = Field(
        "repair",
        description="repair: what a repair takes back, or by margin where there is none; margin: that of "
        "unlearned models and experts; five_metrics: from labels alone",
    )
    grid: Literal["reduced", "published"] = Field("reduced", description="of the five metrics")
    expert: ExpertOptions = ExpertOptions()

    @property
    def five_metrics(self) -> Grid:
        """What the five metrics try."""
        return PUBLISHED if self.grid == "published" else REDUCED


class ModelOptions(Frozen):
    """How a model file is understood."""

    architecture: str = Field("auto", max_length=200)
    normalize: str | None = Field(
        None, max_length=200, description="preset or m1,m2,m3/s1,s2,s3; None: found"
    )
    input_size: int | None = Field(None, ge=8, le=1024, description="pixels; None: the architecture's own")


class SanitizeOptions(ModelOptions):
    """Everything a sanitize job can be told."""

    fidelity: Literal["service", "paper"] = "service"
    seed: int = Field(0, ge=0, lt=2**31)
    split: SplitOptions = SplitOptions()
    unlearn: UnlearnOptions = UnlearnOptions()
    recover: RecoverOptions = RecoverOptions()
    perturbation: PerturbationOptions = PerturbationOptions()
    statistics: StatisticsOptions = StatisticsOptions()
    relearn: RelearnOptions = RelearnOptions()
    prune: PruneOptions = PruneOptions()
    evidence: EvidenceOptions = EvidenceOptions()
    screen: ScreenOptions = ScreenOptions()

    @model_validator(mode="before")
    @classmethod
    def _paper(cls, given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
        """Under `fidelity="paper"` every option that was not given takes the official value."""
        if not isinstance(given, dict) or given.get("fidelity") != "paper":
            return given
        merged = dict(given)
        for key, official in PAPER.items():
            stated = given.get(key, {})
            if isinstance(stated, Frozen):
                stated = stated.model_dump(exclude_unset=True)
            if isinstance(stated, dict):  # whatever else was given is refused when it is validated
                merged[key] = {**official, **stated}
        return merged
