"""How well inputs are screened: one line for each backdoored model and each way to score.

    python -m benchmarks.detectors.screening --data DIR --out screening.jsonl [--weights FOLDER ...] [--models NAME ...]

500 clean images are given, and the command screens 600 others and 400 with the trigger of the model (200 and 200 where
each costs hundreds of forward passes); none of them had been seen by anyone. `five metrics of 30` is the published
setting: 30 clean images are all that there is, each judged without itself, with 100 and 100 inputs. A triggered image
that does not fool the model counts as triggered all the same; what is said `of_hits` leaves it out.
What a repair takes back is scored by `benchmarks.efficacy.run`, which repairs every model. What is in the file already
is not done again.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from app.contract.options import REDUCED
from benchmarks.efficacy.subjects import Exam, Subject, classifier, divide, exam, read_test, subjects
from benchmarks.zoo.images import Images
from worker.classifier import Classifier
from worker.detectors.five_metrics import curves, learn
from worker.detectors.poisoned_samples import bound
from worker.device import Placement, place
from worker.pipelines.inputs import Request
from worker.pipelines.scoring import classes_of
from worker.pipelines.screen import RATES, screen
from worker.samples.interface import SampleSet

PER_CLASS = 50  # clean images that are given
INPUTS = {
    "margin": (600, 400),
    "five_metrics": (200, 200),
}  # clean and triggered ones that the command screens
FEW_PER_CLASS, FEW = 3, 100  # of the published setting: clean images of each class, inputs of each kind
METRICS_OF_30 = "five metrics of 30"


def by_command(
    subject: Subject, clean: SampleSet, judged: Exam, detector: str, seed: int, at: Placement
) -> dict[str, Any]:
    """The line of the product, as the command runs it."""
    with tempfile.TemporaryDirectory() as name:
        samples, suspects = Path(name, "clean.npz"), Path(name, "suspects.npz")
        np.savez(samples, images=_pixels(clean.images), labels=clean.labels.numpy())
        clean_inputs, triggered = INPUTS[detector]
        inputs = torch.cat([judged.clean[:clean_inputs], judged.triggered[:triggered]])
        np.savez(suspects, images=_pixels(inputs))
        options = subject.options(seed, screen={"detector": detector})
        report = screen(Request(subject.path, samples, options, at), suspects).report
    hit = hits(classifier(subject.path, at, subject), judged)
    scores = torch.empty(len(inputs))
    for scored in report.scored:
        scores[int(scored.name)] = scored.score
    lines = [decision.bound for decision in report.decisions]
    return {
        "forwards": report.forwards,
        "seconds": report.timings["total_s"],
        **rates(scores, clean_inputs, lines, hit),
    }


def of_thirty(subject: Subject, clean: SampleSet, judged: Exam, seed: int, at: Placement) -> dict[str, Any]:
    """The line of the five metrics when 30 clean images are all that there is."""
    suspect = classifier(subject.path, at, subject)
    hit = hits(suspect, judged)
    few = torch.cat(
        [(clean.labels == k).nonzero().flatten()[:FEW_PER_CLASS] for k in range(len(clean.class_names))]
    )
    ask, started = partial(classes_of, suspect), time.monotonic()

    def measured(images: Tensor, partners: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        return curves(ask, images.float() / 255, clean.take(partners[: REDUCED.partners]), REDUCED, seed)

    known = [measured(clean.images[i : i + 1], few[few != i]) for i in few.tolist()]
    novelty = learn(np.concatenate(known))
    inputs = torch.cat([judged.clean[:FEW], judged.triggered[:FEW]])
    scores = torch.from_numpy(novelty.scores(measured(inputs, few))).float()
    lines = [bound(torch.from_numpy(novelty.of_the_known()).float(), rate) for rate in RATES]
    finite = [line if np.isfinite(line) else None for line in lines]
    return {
        "forwards": REDUCED.forwards,
        "seconds": time.monotonic() - started,
        **rates(scores, FEW, finite, hit),
    }


def rates(scores: Tensor, clean: int, lines: Sequence[float | None], hit: Tensor) -> dict[str, Any]:
    """AUROC, and shares of clean and triggered inputs above each bound; the clean ones come first.

    `hit` (triggered,): what fooled the model.
    """
    quiet, triggered = scores[:clean], scores[clean:]
    kinds = {"tpr": triggered, "tpr_of_hits": triggered[hit[: len(triggered)]], "fpr": quiet}
    found: dict[str, Any] = {"clean": clean, "triggered": len(triggered)}
    found |= {"auroc": auroc(triggered, quiet), "auroc_of_hits": auroc(kinds["tpr_of_hits"], quiet)}
    for rate, line in zip(RATES, lines, strict=True):
        for name, kind in kinds.items():
            found[f"{name}_{rate}"] = None if line is None else (kind > line).double().mean().item()
    return found


def hits(suspect: Classifier, judged: Exam) -> Tensor:
    """Which triggered inputs fool the model, the first of them."""
    most = max(triggered for _, triggered in INPUTS.values())
    return suspect.predictions(judged.triggered[:most]) == judged.wanted[:most]


def auroc(positive: Tensor, negative: Tensor) -> float:
    """How often a positive scores above a negative, ties by halves (Mann & Whitney, 1947)."""
    apart = positive[:, None] - negative
    return ((apart > 0).double() + (apart == 0).double() / 2).mean().item()


def lines_of(subject: Subject, test: Images, seed: int) -> Iterator[dict[str, Any]]:
    """Every way to score, of one model."""
    given, judging, _ = divide(test, PER_CLASS, seed)
    clean = SampleSet(test.pixels[given], test.labels[given], test.classes)
    judged, at = exam(subject, test, judging), place("cpu")
    facts = {"model": subject.name, "attack": subject.attack, "seed": seed}
    for detector in ("margin", "five_metrics"):
        yield {**facts, "detector": detector, **by_command(subject, clean, judged, detector, seed, at)}
    yield {**facts, "detector": METRICS_OF_30, **of_thirty(subject, clean, judged, seed, at)}


def _pixels(images: Tensor) -> Any:  # noqa: ANN401 - numpy's array of whatever dtype
    return images.permute(0, 2, 3, 1).numpy()


def main() -> None:
    """Do what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10-test.zip")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--weights", type=Path, nargs="+", default=[], help="folders of cards, instead of the zoo"
    )
    parser.add_argument("--models", nargs="+", help="names of cards; all when left out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    test = read_test(args.data)
    earlier = map(json.loads, args.out.read_text().splitlines()) if args.out.exists() else ()
    done = {(line["model"], line["seed"]) for line in earlier}
    for subject in subjects(*args.weights):
        asked = not args.models or subject.name in args.models
        if subject.attack is None or not asked or (subject.name, args.seed) in done:
            continue
        found = list(lines_of(subject, test.resized(subject.input_size), args.seed))
        with args.out.open("a") as out:
            out.writelines(json.dumps(line) + "\n" for line in found)
        print(subject.name, *(f"{line['detector']} {line['auroc']:.3f}" for line in found), flush=True)


if __name__ == "__main__":
    main()
