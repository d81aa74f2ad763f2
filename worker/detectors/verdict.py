"""The verdict: what two independent witnesses say of the suspect.

One witness whose null is a handful of nets makes a model suspicious; two that name the same class make it backdoored.
None of them can clear a model, so this never says `clean` until the null is calibrated.
"""

from collections.abc import Mapping

from app.contract.findings import Signal, Verdict, VerdictLabel
from app.contract.options import EvidenceOptions
from worker.detectors.target_label import Pull

SHIFT = "label shift of the unlearned model"
SIZE = "relative size of the smallest perturbation"
NULL = (
    "not calibrated: set between the clean and the backdoored CIFAR-10 nets that this project has trained; "
    "no false-alarm rate can be stated"
)
BECAUSE_SHIFT = "When its clean task is unlearned, the model falls onto one class, as backdoored models do."
BECAUSE_SIZE = (
    "A perturbation much smaller than any other class needs turns images into one class, as a backdoor does."
)
BECAUSE_BOTH = (
    "When its clean task is unlearned, the model falls onto one class, and a perturbation much smaller than other "
    "classes need turns images into that very class."
)


def judge(shift: Pull | None, sizes: Mapping[int, float], options: EvidenceOptions) -> Verdict:
    """What the label shift of the unlearned model and the relative sizes of perturbations say of the suspect."""
    signals = (*_shift_signal(shift, options), *_size_signal(sizes, options))
    if not signals:
        return Verdict(
            label=VerdictLabel.INCONCLUSIVE,
            because="Unlearning did not bring the clean accuracy down, so there is nothing to read from it.",
        )
    firing = [signal for signal in signals if signal.fires]
    small = [k for k, size in sorted(sizes.items(), key=lambda item: item[1]) if size < options.relative_size]
    fallen = [s.target_class for s in firing if s.name == SHIFT and s.target_class is not None]
    targets = tuple(dict.fromkeys((*small, *fallen)))
    if not firing:
        return Verdict(
            label=VerdictLabel.INCONCLUSIVE,
            because="No evidence of a backdoor was found, but two signals cannot clear a model.",
            signals=signals,
        )
    agreed = bool(set(small) & set(fallen))
    because = BECAUSE_BOTH if agreed else BECAUSE_SIZE if small else BECAUSE_SHIFT
    label = VerdictLabel.BACKDOORED if agreed else VerdictLabel.SUSPICIOUS
    return Verdict(label=label, target_classes=targets, because=because, signals=signals)


def _shift_signal(shift: Pull | None, options: EvidenceOptions) -> tuple[Signal, ...]:
    if shift is None:
        return ()
    return (
        Signal(
            name=SHIFT,
            value=shift.value,
            threshold=options.label_shift,
            fires_when="above",
            null=NULL,
            target_class=shift.target_class,
        ),
    )


def _size_signal(sizes: Mapping[int, float], options: EvidenceOptions) -> tuple[Signal, ...]:
    if not sizes:
        return ()
    target = min(sizes, key=sizes.__getitem__)
    return (
        Signal(
            name=SIZE,
            value=sizes[target],
            threshold=options.relative_size,
            fires_when="below",
            null=NULL,
            target_class=target,
        ),
    )


def shows_evidence(verdict: Verdict) -> bool:
    """Whether there is something to repair."""
    return verdict.label in (VerdictLabel.SUSPICIOUS, VerdictLabel.BACKDOORED)
