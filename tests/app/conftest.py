"""Reports as a real run would write them: every case is one call of `build` with what differs."""

import math
from collections.abc import Callable
from typing import Literal

import pytest

from app.contract.findings import Signal, Skipped, Verdict, VerdictLabel
from app.contract.options import PruneOptions, SanitizeOptions, UnlearnOptions
from app.contract.problem import Problem
from app.contract.report import (
    BeforeAfter,
    Candidate,
    ClassAccuracy,
    Environment,
    Epoch,
    Estimate,
    Firm,
    LabelShares,
    LayerMasks,
    Metrics,
    ModelFacts,
    Normalisation,
    Outcome,
    PairedChange,
    Perturbation,
    Repair,
    Report,
    SampleFacts,
    TriggeredFacts,
)

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# threshold, pruned, accuracy, attack success; the shape of a sweep over a small ResNet
SWEEP = (
    (0.0, 0, 0.907, 0.998), (0.05, 6, 0.907, 0.998), (0.10, 11, 0.907, 0.942), (0.15, 17, 0.900, 0.41),
    (0.20, 24, 0.900, 0.031), (0.25, 29, 0.893, 0.022), (0.30, 36, 0.887, 0.018), (0.35, 45, 0.873, 0.012),
    (0.40, 58, 0.853, 0.010), (0.50, 96, 0.787, 0.006), (0.60, 171, 0.640, 0.003), (0.70, 290, 0.42, 0.0),
)  # fmt: skip
BINS = 20
SECONDS = {"load": 0.4, "unlearn": 21.3, "recover": 38.9, "choose": 12.7, "verify": 64.1}
PIXEL = (  # one grey pixel, PNG
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)


def wilson(value: float, n: int) -> Estimate:
    """A proportion with its interval."""
    if n == 0:
        return Estimate(value=0, low=0, high=1, n=0)
    z = 1.96
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Estimate(value=value, low=max(centre - half, 0), high=min(centre + half, 1), n=n)


def build(
    *,
    kind: Literal["sanitize", "detect"] = "sanitize",
    outcome: Outcome = Outcome.REPAIRED,
    label: VerdictLabel = VerdictLabel.BACKDOORED,
    names: tuple[str, ...] = CIFAR,
    layers: int = 20,
    triggered: bool = True,
    model_name: str = "backdoored-resnet18.safetensors",
) -> Report:
    """One whole report."""
    classes = len(names)
    target = min(7, classes - 1)
    guilty = label in (VerdictLabel.BACKDOORED, VerdictLabel.SUSPICIOUS)
    return Report(
        kind=kind,
        model=_model(model_name, classes),
        samples=_samples(names),
        triggered=TriggeredFacts(name="triggered-200.npz", digest=_digest("c"), n=200, n_evaluated=180)
        if triggered
        else None,
        verdict=_verdict(label, target, guilty=guilty),
        outcome=outcome,
        metrics=_metrics(outcome, names, triggered=triggered),
        repair=_repair(outcome, target, triggered=triggered),
        unlearning=_epochs(12, classes, target, fall=True, guilty=guilty),
        recovering=_epochs(20, classes, target, fall=False, guilty=guilty),
        label_shares=LabelShares(
            suspect=_share(classes, target, 1 / classes),
            unlearned=_share(classes, target, 0.842 if guilty else 0.24),
            repaired_unlearned=_share(classes, target, 0.173) if outcome is Outcome.REPAIRED else None,
        ),
        masks=tuple(_layer(at, layers, outcome) for at in range(layers)),
        options=SanitizeOptions(
            architecture="resnet18:width=16",
            unlearn=UnlearnOptions(clip_norm=20.0, stop_on="held"),
            prune=PruneOptions(accuracy_budget=0.02),
        ),
        seed=0,
        environment=Environment(
            product="0.1.0",
            python="3.11.9",
            torch="2.13.0",
            platform="Linux x86_64",
            device="cpu",
            precision="float32",
            memory_format="channels_last",
            threads=2,
        ),
        timings={f"{stage}_s": seconds for stage, seconds in SECONDS.items()}
        | {"total_s": sum(SECONDS.values())},
        perturbations=_perturbations(classes, target, guilty=guilty, repaired=outcome is Outcome.REPAIRED),
        skipped=(
            Skipped(what="trigger recovery", reason="needs at least 32 clean images per class; there are 20"),
            Skipped(what="five-metric sample detection", reason="no suspect inputs were given"),
        ),
        warnings=(
            Problem(
                code="samples.few",
                detail="The reporting split holds 100 images; intervals are wide.",
                remedy="Give 1,000 clean images or more to tell a change of 2 points from chance.",
            ),
        ),
        result_digest=_digest("d" if outcome is Outcome.REPAIRED else "a"),
        reproduce=f"sanitizer sanitize '{model_name}' --architecture resnet18:width=16 "
        "--samples clean-500.npz --out out --seed 0",
    )


def _model(name: str, classes: int) -> ModelFacts:
    return ModelFacts(
        name=name, digest=_digest("a"), size=2_811_904, format="safetensors", architecture="resnet18:width=16",
        identified=True, num_classes=classes, input_shape=(3, 32, 32), parameters=701_466, filters=1200,
        normalisation=Normalisation(
            name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.201), found=True,
            tried={"cifar10": 0.904, "imagenet": 0.898, "half": 0.871, "none": 0.512},
        ),
    )  # fmt: skip


def _samples(names: tuple[str, ...]) -> SampleFacts:
    return SampleFacts(
        name="clean-500.npz", digest=_digest("b"), n=500, class_names=names,
        per_class=tuple(500 // len(names) for _ in names), fit=250, select=150, report=100, mirrors=True,
    )  # fmt: skip


def _verdict(label: VerdictLabel, target: int, *, guilty: bool) -> Verdict:
    null = "24 clean models, 4 architectures; the largest of them"
    signals = (
        Signal(name="share of the top class after unlearning", value=0.842 if guilty else 0.241, threshold=0.55,
               fires_when="above", null=null, target_class=target if guilty else None),
        Signal(name="normalised label variance", value=0.713 if guilty else 0.034, threshold=0.28,
               fires_when="above", null=null, target_class=target if guilty else None),
        Signal(name="entropy of predictions", value=0.61 if guilty else 2.1, threshold=1.2,
               fires_when="below", null=null),
        Signal(name="shift of the output row, z", value=2.9, threshold=3.5, fires_when="above", null=null),
    )  # fmt: skip
    because = {
        VerdictLabel.CLEAN: "Unlearning scatters predictions as it does in the clean models of the null.",
        VerdictLabel.INCONCLUSIVE: "Unlearning did not reach its stopping accuracy, so what survives it is unknown.",
    }.get(
        label,
        "After unlearning, 84.2 % of the clean images are called horse; in clean models it was at most 55 %.",
    )
    measured = () if label is VerdictLabel.INCONCLUSIVE else signals
    return Verdict(label=label, target_classes=(target,) if guilty else (), because=because, signals=measured)


def _metrics(outcome: Outcome, names: tuple[str, ...], *, triggered: bool) -> Metrics:
    repaired = outcome is Outcome.REPAIRED
    each = max(100 // len(names), 2)
    per_class = []
    for index, name in enumerate(names):
        before = (each - index % 3) / each
        after = before - (1 / each if repaired and index in (3, 7) else 0)
        per_class.append(
            ClassAccuracy(
                index=index,
                name=name,
                accuracy=BeforeAfter(before=wilson(before, each), after=wilson(max(after, 0), each)),
            )
        )
    attack = BeforeAfter(before=wilson(0.994, 180), after=wilson(0.022 if repaired else 0.994, 180))
    robust = BeforeAfter(before=wilson(0.006, 180), after=wilson(0.861 if repaired else 0.006, 180))
    return Metrics(
        clean_accuracy=BeforeAfter(
            before=wilson(0.902, 100), after=wilson(0.896 if repaired else 0.902, 100)
        ),
        clean_change=PairedChange(value=-0.006, low=-0.031, high=0.019, n=100, lost=2, gained=1)
        if repaired
        else PairedChange(value=0, low=0, high=0, n=100, lost=0, gained=0),
        per_class=tuple(per_class),
        attack_success=attack if triggered else None,
        robust_accuracy=robust if triggered else None,
    )


def _repair(outcome: Outcome, target: int, *, triggered: bool) -> Repair:
    if outcome is Outcome.UNCHANGED:
        return Repair(method="none", pruned=0, filters=1200, threshold=None, chosen=None,
                      reason="Nothing was found that would call for a repair.", candidates=())  # fmt: skip
    repaired = outcome is Outcome.REPAIRED
    candidates = []
    for at, (threshold, pruned, accuracy, success) in enumerate(SWEEP):
        change = accuracy - SWEEP[0][2]
        candidates.append(
            Candidate(
                threshold=threshold, pruned=pruned, accuracy=wilson(accuracy, 150),
                change=PairedChange(value=change, low=change - 0.02, high=min(change + 0.02, 1), n=150,
                                    lost=round(-change * 150), gained=0),
                worst_class=target, worst_class_change=change * 3, worst_class_allowed=0.2,
                within_budget=change >= -0.02,
                evidence=(0.17 if repaired else 0.71) if at in (3, 4, 5) else None, passes=repaired and at == 4,
                attack_success=success if triggered else None,
            )
        )  # fmt: skip
    candidates.append(
        candidates[4].model_copy(update={"rung": "relearn", "threshold": None, "pruned": 0, "passes": False})
    )
    return Repair(
        method="prune filters by mask", pruned=24 if repaired else 0, filters=1200,
        threshold=0.2 if repaired else None, chosen=4 if repaired else None,
        best_candidate=None if repaired else 5,
        reason="The smallest change after which the evidence no longer fires."
        if repaired else "No candidate within budget removed the evidence.",
        candidates=tuple(candidates),
    )  # fmt: skip


def _perturbations(classes: int, target: int, *, guilty: bool, repaired: bool) -> tuple[Perturbation, ...]:
    found = []
    for k in range(classes):
        small = guilty and k == target
        found.append(
            Perturbation(
                target_class=k, form=("dense", "patch", "warp")[k % 3], size=None if k == 1 else 3.6 if small else 41.0,
                relative_size=0.09 if small else 1.0, success=wilson(0.93, 135),
                after=wilson(0.01, 135) if repaired else None, pictures=(PIXEL,) * 4 if small else (),
                firm=Firm(times=1.3, success=wilson(0.97, 135), after=wilson(0.02, 135) if repaired else None)
                if small else None,
            )
        )  # fmt: skip
    return tuple(sorted(found, key=lambda p: p.relative_size))


def _epochs(number: int, classes: int, target: int, *, fall: bool, guilty: bool) -> tuple[Epoch, ...]:
    epochs = []
    for at in range(number):
        part = at / max(number - 1, 1)
        bend = part**1.7
        held = 0.9 - 0.72 * bend if fall else 0.18 + 0.6 * (1 - (1 - part) ** 3)
        loss = 0.3 + 4.5 * bend if fall else 3.1 * math.exp(-3 * part) + 0.4
        end = 0.842 if guilty else 0.24
        share = 1 / classes + (end - 1 / classes) * (bend if fall else (1 - part) ** 2)
        wobble = 0.02 * math.sin(at * 2.3)
        epochs.append(
            Epoch(number=at + 1, lr=0.01, loss=loss, accuracy=max(held - 0.05 + wobble, 0), held_accuracy=held,
                  label_shares=_share(classes, target, share))
        )  # fmt: skip
    return tuple(epochs)


def _share(classes: int, target: int, top: float) -> tuple[float, ...]:
    weight = [0.0 if at == target else 1 + 0.5 * math.sin(at * 1.9) for at in range(classes)]
    rest = sum(weight) or 1
    return tuple(top if at == target else (1 - top) * weight[at] / rest for at in range(classes))


def _layer(at: int, layers: int, outcome: Outcome) -> LayerMasks:
    late = at >= layers * 0.75
    filters = 16 * 2 ** min(4 * at // max(layers, 1), 3)
    low = (1, 0, 2, 1) if late else ((0, 0, 1 + (at == 0), 0) if at % 5 == 0 else (0, 0, 0, 0))
    middle = tuple((at + bin_) % 3 if bin_ > 6 else 0 for bin_ in range(4, 17))
    tail = (2, 3)
    top = filters - sum(low) - sum(middle) - sum(tail)
    names = ("conv1.bn", "layer{0}.{1}.bn1", "layer{0}.{1}.bn2", "layer{0}.{1}.shortcut.bn")
    name = names[0] if at == 0 else names[1 + at % 3].format(1 + 4 * at // max(layers, 1), at // 3)
    return LayerMasks(
        parameter=f"{name}.weight",
        filters=filters,
        pruned=sum(low) if outcome is Outcome.REPAIRED else 0,
        histogram=(*low, *middle, *tail, max(top, 0)),
    )


def _digest(digit: str) -> str:
    return f"sha256:{digit * 64}"


@pytest.fixture
def make() -> Callable[..., Report]:
    return build


@pytest.fixture
def repaired() -> Report:
    return build()
