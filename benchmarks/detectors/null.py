"""Make the null of the verdict out of what the witnesses said of clean nets.

    python -m benchmarks.detectors.null [--out worker/detectors/null.json]

The lines are those of `benchmarks.detectors.witnesses`; each carries the command that trained its net.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from app.contract.options import SanitizeOptions
from worker.detectors.null import CleanNet
from worker.detectors.perturbation import Blend, Form, Perturbation, smallest
from worker.detectors.target_label import strongest
from worker.detectors.verdict import Heard

HERE = Path(__file__).parent
CALIBRATING = HERE / "calibrating.jsonl"
SHIPPED = HERE.parents[1] / "worker" / "detectors" / "null.json"
WITHOUT_BATCHNORM = ("vgg16_cifar",)
FITTED = round(500 * SanitizeOptions().split.fit)  # images
NOTHING = Blend(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))  # sizes alone are compared


def heard(line: dict[str, Any]) -> Heard:
    """What the judge hears of one model."""
    found = [
        Perturbation(p["class"], Form(p["form"]), NOTHING, p["size"], p["tried"])
        for p in line.get("perturbations", ())
    ]
    follows = not line["architecture"].startswith(WITHOUT_BATCHNORM)
    shift, movement = (
        strongest(line[name]) if follows and line.get(name) else None for name in ("shift", "movement")
    )
    pull = strongest(line["recalled"]) if line.get("recalled") else None
    return Heard(
        shift,
        movement,
        smallest(found, found),
        line.get("shortcuts", ()),
        10,
        FITTED,
        pull,
        receiving=tuple(line.get("receiving", ())),
    )


def clean_net(line: dict[str, Any]) -> CleanNet:
    """What ships of one clean net."""
    said = {
        name: {k: round(word, 4) for k, word in of_class.items()}
        for name, of_class in heard(line).said.items()
    }
    facts = {name: line[name] for name in ("name", "digest", "architecture", "accuracy")}
    return CleanNet(**facts, said=said)


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """All lines."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=SHIPPED)
    args = parser.parse_args()
    made = [clean_net(line).model_dump(mode="json") for line in read([CALIBRATING])]
    args.out.write_text("[\n" + ",\n".join(json.dumps(net) for net in made) + "\n]\n")
    print(f"{len(made)} clean nets in {args.out}")


if __name__ == "__main__":
    main()
