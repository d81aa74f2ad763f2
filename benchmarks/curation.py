"""What a curated choice of clean samples is like, beside a random one: no defence runs, so this is minutes.

    python -m benchmarks.curation --data DIR [--pool 2000] [--budgets 30 100 300] [--seeds 0 1 2]

Of every net of the zoo, mean over nets and seeds: classes of ten that the chosen hold at all, the rarest class's images
beside an even share, and how far the accuracy on the chosen lies from that on the whole pool, which is what a report
would take it for.
"""

import argparse
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from benchmarks.efficacy.subjects import classifier, read_test, subjects
from benchmarks.efficacy.table import markdown
from worker.device import place
from worker.samples.curation import by_chance, by_energy

HEAD = (
    "budget",
    "strategy",
    "runs",
    "classes held",
    "rarest class, of an even share",
    "accuracy, points off",
)
Row = tuple[float, float, float]


def facts(chosen: Tensor, labels: Tensor, right: Tensor) -> Row:
    """Of one choice: classes held, the rarest class's share of an even one, accuracy beside that of the pool."""
    counts = torch.bincount(labels[chosen], minlength=int(labels.max()) + 1)
    even = len(chosen) / len(counts)
    off = right[chosen].double().mean() - right.double().mean()
    return float((counts > 0).sum()), counts.min().item() / even, 100 * off.item()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10-test.zip")
    parser.add_argument("--pool", type=int, default=2000)
    parser.add_argument("--budgets", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    test, at = read_test(args.data), place("cpu")
    found: dict[tuple[int, str], list[Row]] = {}
    for of in subjects():
        model, images = classifier(of.path, at, of), test.resized(of.input_size)
        for seed in args.seeds:
            order = torch.randperm(len(test.labels), generator=torch.Generator().manual_seed(seed))[
                : args.pool
            ]
            logits, labels = model.logits(images.pixels[order]), test.labels[order]
            right = logits.argmax(1) == labels
            for budget in args.budgets:
                ways = {"energy": by_energy(logits, budget), "random": by_chance(len(order), budget, seed)}
                for name, chosen in ways.items():
                    found.setdefault((budget, name), []).append(facts(chosen, labels, right))
    rows = [
        (
            str(budget),
            name,
            str(len(rows)),
            f"{fmean(r[0] for r in rows):.1f}",
            f"{fmean(r[1] for r in rows):.2f}",
            f"{fmean(r[2] for r in rows):+.1f}",
        )
        for (budget, name), rows in found.items()
    ]
    print(markdown(HEAD, rows))


if __name__ == "__main__":
    main()
