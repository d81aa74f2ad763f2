"""What each witness says of every class of every model, one line a model.

    python -m benchmarks.detectors.witnesses --data DIR --out witnesses.jsonl [--weights FOLDER ...] [--models NAME ...]

Models are those with a card, of the zoo and of other folders that `benchmarks.zoo.train` wrote. A model is examined as
`sanitizer detect` does, with 500 images of the test split that are drawn by the seed of its card: another draw for
each. What is in the file already is not done again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from app.contract.options import SanitizeOptions
from benchmarks.efficacy.subjects import WEIGHTS, classifier, divide, read_test, subject
from benchmarks.zoo.card import Card
from benchmarks.zoo.images import Images
from worker.device import place
from worker.pipelines.clock import Clock
from worker.pipelines.hear import hear
from worker.samples.interface import SampleSet
from worker.samples.split import split

PER_CLASS = 50  # clean images


def measure(path: Path, card: Card, test: Images) -> dict[str, Any]:
    """The line of one model, whose card is at `path`."""
    options = SanitizeOptions(seed=card.seed)
    given, *_ = divide(test, PER_CLASS, card.seed)
    clean = SampleSet(test.pixels[given], test.labels[given], test.classes)
    parts = split(clean, options.split.fit, options.split.select, options.seed)
    of = subject(path)
    suspect = classifier(of.path, place("cpu"), of)
    started, clock = time.monotonic(), Clock()
    torch.manual_seed(options.seed)
    hearing = hear(suspect, parts.fit, options, clock)
    fallen, found, heard = hearing.fallen, hearing.perturbations, hearing.heard
    return {
        "name": card.name,
        "digest": card.digest,
        "architecture": card.architecture,
        "attack": card.planted.attack if card.planted else None,
        "target": card.planted.target if card.planted else None,
        "accuracy": card.acc.value,
        "seed": card.seed,
        "command": card.command,
        "shift": fallen.shift and fallen.shift.per_class,
        "movement": fallen.movement and fallen.movement.per_class,
        "shortcuts": heard.shortcuts,
        "recalled": heard.recalled and heard.recalled.per_class,
        "receiving": heard.receiving,
        "epochs": [len(run.epochs) for run in fallen.runs],
        "perturbations": [
            {"class": p.target_class, "form": p.form.value, "size": p.size, "tried": p.tried} for p in found
        ],
        "seconds": {**clock.seconds, "whole": time.monotonic() - started},
    }


def main() -> None:
    """Do what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10-test.zip")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, nargs="+", default=[WEIGHTS], help="folders of cards")
    parser.add_argument("--models", nargs="+", help="names of cards; all when left out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    test = read_test(args.data)
    done = (
        {json.loads(line)["digest"] for line in args.out.read_text().splitlines()}
        if args.out.exists()
        else set()
    )
    for path in sorted(card for folder in args.weights for card in folder.glob("*.json")):
        card = Card.model_validate_json(path.read_text())
        if card.status == "unproven" or card.digest in done or (args.models and card.name not in args.models):
            continue
        line = measure(path, card, test.resized(card.input_size))
        with args.out.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(f"{card.name} {line['seconds']['whole']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
