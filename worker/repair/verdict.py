"""The verdict, as far as one signal carries it.

A single signal whose null is a handful of clean nets can make a model suspicious; it can neither prove a backdoor nor
clear a model of one. So this says `suspicious` or `inconclusive`, and no more until the null is calibrated.
"""

from app.contract.findings import Signal, Verdict, VerdictLabel
from worker.repair.evidence import LabelShift

NULL = (
    "not calibrated: set between the clean and the backdoored CIFAR-10 nets that this project has trained; "
    "no false-alarm rate can be stated"
)


def judge(shift: LabelShift | None, threshold: float) -> Verdict:
    """What the label shift of the unlearned model says of the suspect."""
    if shift is None:
        return Verdict(
            label=VerdictLabel.INCONCLUSIVE,
            because="Unlearning did not bring the clean accuracy down, so there is nothing to read from it.",
        )
    signal = Signal(
        name="label shift of the unlearned model",
        value=shift.value,
        threshold=threshold,
        fires_when="above",
        null=NULL,
        target_class=shift.target_class,
    )
    if signal.fires:
        return Verdict(
            label=VerdictLabel.SUSPICIOUS,
            target_classes=(shift.target_class,),
            because="When its clean task is unlearned, the model falls onto one class, as backdoored models do.",
            signals=(signal,),
        )
    return Verdict(
        label=VerdictLabel.INCONCLUSIVE,
        because="No evidence of a backdoor was found, but this signal alone cannot clear a model.",
        signals=(signal,),
    )


def shows_evidence(verdict: Verdict) -> bool:
    """Whether there is something to repair."""
    return verdict.label in (VerdictLabel.SUSPICIOUS, VerdictLabel.BACKDOORED)
