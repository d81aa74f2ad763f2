"""How often a net is accused over draws of clean images, by the first look and after a closer one.

    python -m benchmarks.detectors.draws --data DIR --out draws.jsonl --seeds 1 2 [--weights DIR ...] [--models NAME]

A model is examined as `sanitizer detect` does, with 500 images of the test split that the seed draws; the closer look
is that of `sanitizer sanitize`, and it is taken wherever the first one accuses. What is in the file already is not done
again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.efficacy.subjects import Subject, classifier, divide, read_test, subjects
from benchmarks.zoo.images import Images
from worker.detectors.verdict import TOGETHER, shows_evidence
from worker.device import place
from worker.pipelines.clock import Clock
from worker.pipelines.doubt import accused_after, recalled_twice, second_look
from worker.pipelines.examine import examine, look_closely, upheld
from worker.pipelines.hear import hear
from worker.samples.interface import SampleSet
from worker.samples.split import split

PER_CLASS = 50  # clean images


def draw(of: Subject, test: Images, seed: int) -> dict[str, Any]:
    """The line of one model and one seed."""
    options, started = of.options(seed), time.monotonic()
    given, *_ = divide(test, PER_CLASS, seed)
    clean = SampleSet(test.pixels[given], test.labels[given], test.classes)
    parts = split(clean, options.split.fit, options.split.select, seed)
    suspect = classifier(of.path, place("cpu"), of)
    torch.manual_seed(seed)
    hearing = hear(suspect, parts.fit, options, Clock())
    first = examine(hearing, options.evidence)
    (score,) = (signal.value for signal in first.verdict.signals if signal.name == TOGETHER)
    line = {
        "model": of.name,
        "attack": of.attack,
        "seed": seed,
        "score": score,
        "first": first.verdict.label,
        "names": first.verdict.target_classes,
        "size": min((first.sizes[k] for k in first.aims if k in first.sizes), default=None),
        "doubted": None,
        "again": None,
        "closely": None,
        "label": first.verdict.label,
    }
    said = recalled_twice(suspect, parts.fit, hearing, options)
    if found := second_look(suspect, parts.fit, hearing, said, options):
        line |= {"doubted": found.target_class, "again": found.size}
    again = accused_after(said, found, options.evidence)
    line["label"] = again.verdict.label
    if shows_evidence(again.verdict):
        looked = look_closely(suspect, parts.fit, again, options)
        line["closely"] = min(looked.sizes[k] for k in looked.aims)
        line["label"] = upheld(hearing, looked, options.evidence).verdict.label
    return line | {"seconds": round(time.monotonic() - started)}


def main() -> None:
    """Do what is not done yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10-test.zip")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="folders of cards")
    parser.add_argument("--models", nargs="+", help="names of cards; all when left out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    test, text = read_test(args.data), args.out.read_text() if args.out.exists() else ""
    done = {(line["model"], line["seed"]) for line in map(json.loads, text.splitlines())}
    for seed in args.seeds:
        for of in subjects(*args.weights):
            if (of.name, seed) in done or (args.models and of.name not in args.models):
                continue
            line = draw(of, test.resized(of.input_size), seed)
            with args.out.open("a") as out:
                out.write(json.dumps(line) + "\n")
            print(f"{of.name} {seed}: {line['first']}, then {line['label']}", flush=True)


if __name__ == "__main__":
    main()
