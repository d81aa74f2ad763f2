"""Where what BatchNorm remembers of training leads, on nets of known truth: one line for each net.

    python -m benchmarks.detectors.recalled --data DIR --out benchmarks/detectors/recalled.jsonl [--weights DIR ...]

The example and its clean twin, the zoo, and the cards of any other folders. What is in the file already is not done
again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from app.contract.options import SanitizeOptions
from benchmarks.efficacy.subjects import WEIGHTS, Subject, classifier, divide, read_test, subject
from benchmarks.zoo.card import file_digest, read_card
from benchmarks.zoo.images import Images
from worker.detectors.batch_statistics import recall, recalled
from worker.device import place
from worker.samples.interface import SampleSet
from worker.samples.split import split

PER_CLASS = 50  # clean images
EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = (
    Subject("example", EXAMPLES / "backdoored-resnet18.safetensors", "badnets", 7),
    Subject("example-twin", EXAMPLES / "clean-resnet18.safetensors", None, 0),
)


def measure(of: Subject, seed: int, test: Images) -> dict[str, Any]:
    """The line of one net; its truth is told by its card, its command too."""
    options = SanitizeOptions(seed=seed)
    given, judging, _ = divide(test, PER_CLASS, seed)
    clean = SampleSet(test.pixels[given], test.labels[given], test.classes)
    fit = split(clean, options.split.fit, options.split.select, seed).fit
    suspect = classifier(of.path, place("cpu"), of)
    started = time.monotonic()
    added = recall(suspect, fit, options.statistics, seed)
    pull = None if added is None else recalled(suspect, fit, added)[0]
    seconds = time.monotonic() - started
    right = suspect.predictions(test.pixels[judging]) == test.labels[judging]
    return {
        "name": of.name,
        "digest": file_digest(of.path),
        "attack": of.attack,
        "target": of.target if of.attack else None,
        "accuracy": right.double().mean().item(),
        "seed": seed,
        "recalled": pull and pull.per_class,
        "recalling_s": seconds,
    }


def main() -> None:
    """Do what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10-test.zip")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="more folders of cards")
    args = parser.parse_args()
    torch.set_num_threads(1)
    test = read_test(args.data)
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    done = {json.loads(line)["digest"] for line in lines}
    todo: list[tuple[Subject, int, dict[str, str]]] = [
        (of, 0, {"architecture": "resnet18_cifar:width=16"}) for of in EXAMPLE
    ]
    for path in sorted(card for folder in (WEIGHTS, *args.weights) for card in folder.glob("*.json")):
        card = read_card(path)
        if card.status != "unproven":
            facts = {"architecture": card.architecture, "command": card.command}
            todo.append((subject(path), card.seed, facts))
    for of, seed, facts in todo:
        if file_digest(of.path) in done:
            continue
        line = measure(of, seed, test.resized(of.input_size)) | facts
        with args.out.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(of.name, line["recalled"] and max(line["recalled"]), flush=True)


if __name__ == "__main__":
    main()
