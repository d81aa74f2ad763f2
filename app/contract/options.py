"""Every option of a job, with its default, its bound and its source. Defaults live here and nowhere else.

`fidelity="paper"` runs RNP as its authors' code does (Li et al., ICML 2023, official repository at eeae192), oddities
included; `fidelity="service"` runs it as we found it to work on nets that the paper did not tune for. The
deviations are the fields of `UnlearnOptions` and `RecoverOptions`; docs/decisions/0004 gives a reason for each.
"""

from typing import Literal

from pydantic import Field

from app.contract.frozen import Frozen


class SplitOptions(Frozen):
    """How the clean samples are divided, once, stratified by class and seeded."""

    fit: float = Field(0.5, gt=0, lt=1, description="share that unlearning and recovering see")
    select: float = Field(
        0.3, gt=0, lt=1, description="share that chooses the operating point; the rest reports"
    )


class UnlearnOptions(Frozen):
    """Stage 1, neuron unlearning: ascent on the clean loss (RNP §3.2)."""

    lr: float = Field(0.01, gt=0, le=1)  # official main.py, --unlearning_lr
    momentum: float = Field(0.9, ge=0, lt=1)  # official
    weight_decay: float = Field(5e-4, ge=0)  # official; its sign is not flipped
    milestones: tuple[int, ...] = (10, 20)  # official, epochs at which lr falls tenfold
    max_epochs: int = Field(21, ge=1, le=500)  # official: range(0, 20 + 1)
    batch_size: int = Field(128, ge=1, le=4096)  # official
    stop_accuracy: float = Field(0.20, ge=0, lt=1)  # official, tuned for 10 classes
    augment: bool = True  # official: RandomCrop(32, 4) and a mirror in every stage
    batch_statistics: bool = True  # official: model.train(), BatchNorm normalises by the batch
    dropout: bool = True  # official: model.train() leaves dropout on
    clip_norm: float | None = None  # official clips before backward(), which is no clipping at all
    stop_on: Literal["training", "held"] = "training"  # official: accuracy of the moving, augmented model


class RecoverOptions(Frozen):
    """Stage 2, filter recovering: descent on the clean loss through the filter masks alone (RNP §3.3)."""

    lr: float = Field(0.2, gt=0, le=10)  # official main.py, --recovering_lr
    momentum: float = Field(0.9, ge=0, lt=1)  # official
    alpha: float = Field(0.2, gt=0, le=1)  # official; scales the loss, so the effective rate is lr·alpha
    epochs: int = Field(20, ge=1, le=500)  # official
    batch_size: int = Field(128, ge=1, le=4096)  # official
    augment: bool = True  # official
    batch_statistics: bool = True  # official
    dropout: bool = True  # official
    decimals: int | None = Field(None, ge=1, le=8)  # official writes masks as {:.4f}
    saturation: float | None = Field(None, gt=0, lt=1)


class PruneOptions(Frozen):
    """Stage 3: the operating point, chosen without any triggered sample."""

    accuracy_budget: float = Field(
        0.02, ge=0, le=0.5, description="clean accuracy that a repair may cost, absolute"
    )
    class_budget: float = Field(
        0.10, ge=0, le=1, description="accuracy that the worst class may lose, absolute"
    )
    max_threshold: float = Field(0.9, gt=0, le=1)  # official sweep: arange(0, .90 + .05, .05)


class SanitizeOptions(Frozen):
    """Everything a sanitize job can be told."""

    architecture: str = Field("auto", max_length=200)
    normalize: str | None = Field(
        None, max_length=200, description="preset or m1,m2,m3/s1,s2,s3; None: found"
    )
    input_size: int | None = Field(None, ge=8, le=1024, description="pixels; None: the architecture's own")
    fidelity: Literal["service", "paper"] = "service"
    seed: int = Field(0, ge=0, lt=2**31)
    split: SplitOptions = SplitOptions()
    unlearn: UnlearnOptions = UnlearnOptions()
    recover: RecoverOptions = RecoverOptions()
    prune: PruneOptions = PruneOptions()
