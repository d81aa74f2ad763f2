"""Make the null of the verdict out of what the witnesses said of clean nets.

    python -m benchmarks.detectors.null WITNESSES.jsonl ... [--out worker/detectors/null.json]

Nets without BatchNorm are left out, since unlearning is not heard on them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from app.contract.options import SanitizeOptions
from worker.detectors.null import CleanNet
from worker.detectors.perturbation import Blend, Form, Perturbation, smallest
from worker.detectors.target_label import strongest
from worker.detectors.verdict import Heard

SHIPPED = Path(__file__).parents[2] / "worker" / "detectors" / "null.json"
WITHOUT_BATCHNORM = ("vgg16_cifar",)
FITTED = round(500 * SanitizeOptions().split.fit)  # images
NOTHING = Blend(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))  # sizes alone are compared


def heard(line: dict[str, Any]) -> Heard:
    """What the judge hears of one model."""
    found = [
        Perturbation(p["class"], Form(p["form"]), NOTHING, p["size"], p["tried"])
        for p in line["perturbations"]
    ]
    follows = not line["architecture"].startswith(WITHOUT_BATCHNORM)
    shift, movement = (
        strongest(line[name]) if follows and line[name] else None for name in ("shift", "movement")
    )
    return Heard(shift, movement, smallest(found, found), 10, FITTED)


def clean_net(line: dict[str, Any]) -> CleanNet:
    """What ships of one clean net."""
    said = {
        name: {k: round(word, 4) for k, word in words.items()} for name, words in heard(line).said.items()
    }
    facts = {name: line[name] for name in ("name", "digest", "architecture", "accuracy")}
    return CleanNet(**facts, said=said)


def read(paths: list[Path]) -> list[dict[str, Any]]:
    """All lines."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("witnesses", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    args = parser.parse_args()
    lines = [
        line
        for line in read(args.witnesses)
        if line["attack"] is None and not line["architecture"].startswith(WITHOUT_BATCHNORM)
    ]
    nets = TypeAdapter(tuple[CleanNet, ...]).dump_python(tuple(map(clean_net, lines)), mode="json")
    args.out.write_text("[\n" + ",\n".join(json.dumps(net) for net in nets) + "\n]\n")
    print(f"{len(nets)} clean nets in {args.out}")


if __name__ == "__main__":
    main()
