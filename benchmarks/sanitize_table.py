"""The table of the README: what `sanitizer sanitize` does to models with known truth.

    python benchmarks/sanitize_table.py [--zoo DIR] [--seeds 0 1 2]

Runs the command itself, once for each model and seed, on the example and on every model of a zoo (folders with
`model.safetensors` and, when backdoored, `triggered.npz`, beside `clean-500.npz` and `test-2000.npz`). The command is
given no triggered sample. Afterwards both files are evaluated here: ACC on test images that the command never saw, ASR
on all triggered images whose true class is not the target.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from worker.formats import normalisation
from worker.formats.load import load
from worker.statistics import proportion

HEAD = (
    *(
        "model",
        "seed",
        "verdict",
        "false alarms",
        "label shift",
        "row",
        "relative size",
        "way",
        "recalled",
        "together",
        "outcome",
    ),
    *("ACC before", "ACC after", "ASR before", "ASR after", "pruned", "relearned", "seconds"),
)
EXAMPLES = Path(__file__).parent.parent / "examples"


@dataclass(frozen=True, slots=True)
class Case:
    """A model, what the command is given, and what only the evaluation sees."""

    name: str
    model: Path
    samples: Path
    test: Path | None
    triggered: Path | None


def cases(zoo: Path | None) -> list[Case]:
    """The example, its clean twin, and the zoo if there is one."""
    unseen = zoo / "test-2000.npz" if zoo else None
    found = [
        Case(
            "example, BadNets",
            EXAMPLES / "backdoored-resnet18.safetensors",
            EXAMPLES / "clean-500.zip",
            unseen,
            EXAMPLES / "triggered-200.npz",
        ),
        Case(
            "example, clean twin",
            EXAMPLES / "clean-resnet18.safetensors",
            EXAMPLES / "clean-500.zip",
            unseen,
            None,
        ),
    ]
    for card in sorted(zoo.glob("*/card.json")) if zoo else []:
        triggered = card.parent / "triggered.npz"
        found.append(
            Case(
                f"zoo, {card.parent.name}",
                card.parent / "model.safetensors",
                card.parents[1] / "clean-500.npz",
                unseen,
                triggered if triggered.exists() else None,
            )
        )
    return found


def percent(path: Path, images: Path, truth: str) -> str:
    """Share of `images` that the model at `path` gives the class named by the array `truth`, with its interval."""
    model, arrays = load(path), np.load(images)
    kept = (
        arrays["labels"] != arrays["targets"] if "targets" in arrays else np.ones(len(arrays["labels"]), bool)
    )
    pixels = torch.from_numpy(arrays["images"][kept]).permute(0, 3, 1, 2)
    cifar10 = normalisation.parse("cifar10", 3)
    with torch.inference_mode():
        parts = [model.module(normalisation.apply(part, cifar10)).argmax(1) for part in pixels.split(500)]
    share = proportion(torch.cat(parts) == torch.from_numpy(arrays[truth][kept].astype(np.int64)))
    return f"{share.value:.1%} ({share.low:.1%}–{share.high:.1%}, n = {share.n})"


def accuracy(case: Case, path: Path, reported: dict[str, float]) -> str:
    """ACC on the test images, or on the command's reporting split where there are no others."""
    if case.test is None:
        return "{value:.1%} ({low:.1%}–{high:.1%}, n = {n})".format(**reported)
    return percent(path, case.test, "labels")


def row(case: Case, seed: int) -> str:
    """Run the command once and evaluate what it gave back."""
    with tempfile.TemporaryDirectory() as name:
        command: list[str | Path] = [
            Path(sys.executable).parent / "sanitizer",
            "sanitize",
            case.model,
            "--samples",
            case.samples,
        ]
        started = time.monotonic()
        done = subprocess.run(
            [*command, "--out", name, "--seed", str(seed), "--json"], stdout=subprocess.PIPE, check=False
        )
        seconds = time.monotonic() - started
        report = json.loads(done.stdout)
        back = Path(name) / case.model.name
        acc = [
            accuracy(case, path, report["metrics"]["clean_accuracy"][when])
            for path, when in ((case.model, "before"), (back, "after"))
        ]
        asr = [percent(p, case.triggered, "targets") if case.triggered else "–" for p in (case.model, back)]
    verdict = report["verdict"]
    cells = [
        case.name,
        str(seed),
        " ".join([verdict["label"], *(f"→ {k}" for k in verdict["target_classes"])]),
        "–" if verdict["false_alarms"] is None else f"{verdict['false_alarms']:.0%}",
        *(f"{signal['value']:.2f}" for signal in verdict["signals"]),
        report["outcome"],
        *acc,
        *asr,
        f"{report['repair']['pruned']} of {report['model']['filters']}",
        str(report["repair"]["relearned"]),
        f"{seconds:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--zoo", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", default="", help="cases whose name contains this")
    args = parser.parse_args()
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    for case in cases(args.zoo):
        for seed in args.seeds if args.only in case.name else []:
            print(row(case, seed), flush=True)


if __name__ == "__main__":
    main()
