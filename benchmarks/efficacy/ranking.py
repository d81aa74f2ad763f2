"""Whether the signals that judge a repair order repairs as the hidden success of the attack does.

    python -m benchmarks.efficacy.ranking --data DIR --out ranking.jsonl [--models NAME ...] [--seeds 0]
    python -m benchmarks.efficacy.ranking_table ranking.jsonl

Of each backdoored model some repairs are made, good and bad ones, and verification asks all its questions of each,
where a job stops at the first bad answer. One line for each repair: what was answered, and the attack's success on
images that nothing had seen. What is in the file already is not done again.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from app.contract.options import SanitizeOptions
from app.errors import ModelError
from benchmarks.efficacy.run import marks
from benchmarks.efficacy.subjects import Exam, Subject, classifier, divide, exam, read_test, subjects
from benchmarks.efficacy.tuning import fine_tune
from benchmarks.zoo.images import Images
from worker.classifier import Classifier
from worker.device import Placement, place
from worker.pipelines.clock import Clock
from worker.pipelines.examine import Examined, examine, look_closely
from worker.pipelines.fall import fall
from worker.pipelines.hear import hear
from worker.pipelines.verify import evidence_left, success_of
from worker.progress import SILENT
from worker.repair.relearn import partway, relearn
from worker.rnp.masks import mean
from worker.rnp.prune import prune
from worker.rnp.recover import recover
from worker.samples.interface import CleanSplit, SampleSet
from worker.samples.split import split
from worker.statistics import paired_change

PER_CLASS = 50  # clean images that are given
PRUNED = (0.05, 0.2)  # of the filters, by their masks
SHARES = (0.25, 0.5, 1.0)  # of the way to the relearned model


@dataclass(frozen=True, slots=True)
class Case:
    """One suspect with what a job knows of it when it begins to repair."""

    suspect: Classifier
    parts: CleanSplit
    examined: Examined
    options: SanitizeOptions


def case(subject: Subject, clean: SampleSet, seed: int, at: Placement) -> Case:
    """Hear and examine, as a job does."""
    options, suspect = subject.options(seed), classifier(subject.path, at, subject)
    parts = split(clean, options.split.fit, options.split.select, options.seed)
    examined = examine(hear(suspect, parts.fit, options, Clock()), options.evidence)
    return Case(suspect, parts, look_closely(suspect, parts.fit, examined, options), options)


def repairs(of: Case) -> Iterator[tuple[str, nn.Module]]:
    """Nothing, published pruning, what others do with clean images, and ours, part of the way and whole."""
    suspect, fit, options = of.suspect, of.parts.fit, of.options
    yield "nothing", suspect.copy().eval()
    runs = enumerate(of.examined.fallen.runs, options.seed)
    recovered = [
        recover(suspect.with_module(run.module), fit, options.recover, seed).masks for seed, run in runs
    ]
    ranked = mean(recovered).ranked()
    for part in PRUNED:
        yield f"pruned {part:.0%}", prune(suspect, ranked[: round(part * len(ranked))]).eval()
    for name, sharpness_aware in (("fine-tuning", False), ("FT-SAM", True)):
        yield name, fine_tune(suspect, fit, options.seed, sharpness_aware=sharpness_aware)
    accused = of.examined.accused(options.evidence)
    whole = relearn(suspect, (), fit, accused, {}, options.relearn, options.seed)
    for share in SHARES:
        yield f"relearned {share:.0%}", partway(suspect, (), whole, share, {})


def answers(of: Case, module: nn.Module) -> dict[str, float | None]:
    """Everything that verification asks, whatever was answered before; None: the question makes no sense here.

    `success`: what the suspect's perturbations still reach; `pursued`: what perturbations reach that follow the
    repaired model, both beyond what clean images do; `size`: of the smallest perturbation of a fresh search, in
    multiples of the usual one; `shift`: how much of the lost accuracy goes to the accused classes in unlearning;
    `change`: of clean accuracy on the selecting images.
    """
    repaired, select = of.suspect.with_module(module), of.parts.select
    before = of.suspect.predictions(select.images) == select.labels
    change = paired_change(before, repaired.predictions(select.images) == select.labels).value
    try:
        return {**_evidence(of, repaired), "change": change}
    except ModelError:  # the repair has lost the clean task, so there is nothing to unlearn
        return {"change": change}


def _evidence(of: Case, repaired: Classifier) -> dict[str, float | None]:
    deaf = of.options.evidence.model_copy(update={"success": 1.0, "pursued": 1.0})
    options = of.options.model_copy(update={"evidence": deaf})
    reached = success_of(repaired, of.examined.accused(of.options.evidence), of.parts.select)
    left = evidence_left(repaired, of.examined, of.parts, options)
    return {
        "success": max((one.excess for one in reached), default=0.0),
        "pursued": left.pursued,
        "size": left.relative_size,
        "shift": _shift(of, repaired) if left.label_shift is None else left.label_shift,
    }


def _shift(of: Case, repaired: Classifier) -> float | None:
    """What a job does not ask once it has heard enough."""
    examined = of.examined
    if examined.verdict.all_to_all or not examined.fallen.follows_batches:
        return None
    shift = fall(repaired, of.parts.fit, of.options, SILENT).shift
    return max(shift.per_class[k] for k in examined.aims) if shift else None


def lines(subject: Subject, test: Images, seed: int, at: Placement) -> Iterator[dict[str, Any]]:
    """One for each repair."""
    given, judging, _ = divide(test, PER_CLASS, seed)
    clean = SampleSet(test.pixels[given], test.labels[given], test.classes)
    judged: Exam = exam(subject, test, judging)
    of = case(subject, clean, seed, at)
    for repair, module in repairs(of):
        measured = marks(of.suspect, module, judged)
        yield {
            "key": f"{subject.name}/{seed}/{repair}",
            "model": subject.name,
            "attack": subject.attack,
            "seed": seed,
            "repair": repair,
            "accused": list(of.examined.aims),
            "answers": answers(of, module),
            **{name: value and value.model_dump() for name, value in measured.items()},
        }


def main() -> None:
    """Do what is not done yet, a model at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    torch.set_num_threads(1)
    at, test = place("cpu"), read_test(args.data)
    text = args.out.read_text() if args.out.exists() else ""
    done = {json.loads(line)["key"].rpartition("/")[0] for line in text.splitlines()}
    for seed in args.seeds:
        for subject in subjects():
            wanted = subject.attack and (not args.models or subject.name in args.models)
            if not wanted or f"{subject.name}/{seed}" in done:
                continue
            found = list(lines(subject, test, seed, at))
            with args.out.open("a") as out:
                out.writelines(f"{json.dumps(line)}\n" for line in found)
            print(f"{subject.name}: {len(found)} repairs", flush=True)


if __name__ == "__main__":
    main()
