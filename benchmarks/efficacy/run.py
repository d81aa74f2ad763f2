"""Does it work, and how do others do? One line for each model, seed, number of clean images and defence.

    python -m benchmarks.efficacy.run --data DIR --out results.jsonl [--seeds 0 1] [--per-class 50] [--workers 2]
    python -m benchmarks.efficacy.table results.jsonl

Clean images come from the test split, so no model has seen them; what judges comes from the rest of it. What is in
the file already is not done again.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from app.contract.report import Estimate
from benchmarks.detectors.screening import rates
from benchmarks.efficacy.defences import DEFENCES, Back, Given
from benchmarks.efficacy.reactivation import IMAGES, poisoned, retune
from benchmarks.efficacy.subjects import TEST, Exam, Subject, classifier, divide, exam, subjects
from benchmarks.zoo import images
from benchmarks.zoo.planted import attack_of
from worker.classifier import Classifier
from worker.detectors.poisoned_samples import bound, taken_back
from worker.device import place
from worker.pipelines.screen import RATES
from worker.samples.interface import SampleSet
from worker.samples.split import split
from worker.statistics import proportion


@dataclass(frozen=True, slots=True)
class Task:
    """One defence of one model with one draw of clean images."""

    subject: Subject
    per_class: int
    seed: int
    defence: str

    @property
    def key(self) -> str:
        """What its lines are known by."""
        return f"{self.subject.name}/{self.per_class}/{self.seed}/{self.defence}"


def carry_out(task: Task, archive: Path) -> list[dict[str, Any]]:
    """The lines of one task."""
    torch.set_num_threads(1)
    test = images.read(archive).resized(task.subject.input_size)
    given_index, judging_index, spare = divide(test, task.per_class, task.seed)
    judged_by = exam(task.subject, test, judging_index)
    clean = SampleSet(test.pixels[given_index], test.labels[given_index], test.classes)
    given = Given(task.subject, place("cpu"), clean, task.seed, judged_by)
    before = marks(given.suspect, given.suspect.module, judged_by)
    left = SampleSet(test.pixels[spare[:IMAGES]], test.labels[spare[:IMAGES]], test.classes)
    return [
        line(task, back, len(test.classes), before, marks(given.suspect, back.module, judged_by))
        | {"screened": screened(task, given, back)}
        | {"reactivated": reactivated(task, given, back.module, left)}
        for back in DEFENCES[task.defence](given)
    ]


def reactivated(task: Task, given: Given, module: nn.Module, left: SampleSet) -> dict[str, Any] | None:
    """ASR once a module, and the clean twin of its suspect, were trained further on a few poisoned images."""
    subject = task.subject
    if subject.attack is None or subject.twin is None:
        return None
    mixed = poisoned(left, attack_of(subject.attack, subject.path), subject.target, task.seed)
    models = {
        "after": given.suspect.with_module(module),
        "control": classifier(subject.twin, given.placement, subject),
    }
    found = {name: marks(m, retune(m, mixed, task.seed), given.exam)["asr"] for name, m in models.items()}
    return {name: asr and asr.model_dump() for name, asr in found.items()}


def screened(task: Task, given: Given, back: Back) -> dict[str, Any] | None:
    """How well what our repair takes back tells the triggered images of the exam from its clean ones.

    Calibrated as `sanitizer screen` does, which repairs first, on the same images with the same seed. None where
    nothing was planted, or nothing was repaired.
    """
    suspect, judged = given.suspect, given.exam
    repaired = suspect.with_module(back.module)
    if task.defence != "ours" or not len(judged.wanted):
        return None
    options = task.subject.options(task.seed)
    held = split(given.clean, options.split.fit, options.split.select, options.seed).report
    clean, calibrating, triggered = (
        taken_back(suspect, repaired, images)[1] for images in (judged.clean, held.images, judged.triggered)
    )
    if not clean.any():
        return None
    lines = [bound(calibrating, rate) for rate in RATES]
    hit = suspect.predictions(judged.triggered) == judged.wanted
    return rates(torch.cat([clean, triggered]), len(clean), lines, hit)


def marks(suspect: Classifier, module: nn.Module, judged_by: Exam) -> dict[str, Estimate | None]:
    """ACC, ASR and RA of a module; the last two where something was planted."""
    model = suspect.with_module(module)
    clean = model.predictions(judged_by.clean) == judged_by.labels
    if not len(judged_by.wanted):
        return {"acc": proportion(clean), "asr": None, "ra": None}
    said = model.predictions(judged_by.triggered)

    def share(classes: Tensor) -> Estimate:
        return proportion(said == classes)

    return {"acc": proportion(clean), "asr": share(judged_by.wanted), "ra": share(judged_by.true)}


def line(
    task: Task,
    back: Back,
    classes: int,
    before: dict[str, Estimate | None],
    after: dict[str, Estimate | None],
) -> dict[str, Any]:
    """What is written down."""
    return {
        "key": task.key,
        "model": task.subject.name,
        "attack": task.subject.attack,
        "n_clean": task.per_class * classes,
        "seed": task.seed,
        "defence": back.defence,
        "says": back.says,
        "before": {name: value and value.model_dump() for name, value in before.items()},
        "after": {name: value and value.model_dump() for name, value in after.items()},
        "seconds": round(back.seconds, 1),
    }


def main() -> None:
    """Do what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the test split")
    parser.add_argument("--test", default=TEST, help="its name there")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--weights", type=Path, nargs="+", default=[], help="folders of cards, instead of the zoo"
    )
    parser.add_argument("--models", nargs="+", help="names of cards; all when left out")
    parser.add_argument("--defences", nargs="+", choices=DEFENCES, default=list(DEFENCES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--per-class", type=int, nargs="+", default=[50])
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    chosen = [s for s in subjects(*args.weights) if not args.models or s.name in args.models]
    done = (
        {json.loads(text)["key"] for text in args.out.read_text().splitlines()}
        if args.out.exists()
        else set()
    )
    every = product(args.seeds, args.per_class, args.defences, chosen)
    tasks = [Task(subject, per_class, seed, defence) for seed, per_class, defence, subject in every]
    with (
        ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool,
        args.out.open("a") as out,
    ):
        running = {
            pool.submit(carry_out, task, args.data / args.test): task
            for task in tasks
            if task.key not in done
        }
        for number, future in enumerate(as_completed(running), 1):
            for found in future.result():
                out.write(json.dumps(found) + "\n")
            out.flush()
            print(f"{number}/{len(running)} {running[future].key}", flush=True)


if __name__ == "__main__":
    main()
