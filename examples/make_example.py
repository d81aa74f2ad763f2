"""Train the example models: a narrow CIFAR-10 ResNet-18 with a patch backdoor, and its clean twin.

    python -m examples.make_example --data DIR --out examples
    python -m examples.make_example --data DIR --out examples --clean --seed 1    # its clean twin

DIR holds cifar10-train.zip and cifar10-test.zip in ImageFolder layout (`airplane/0000.jpg`, …). About 50
minutes on one CPU core. The attack is BadNets on a tenth of the training images, which are then labelled
`horse`; the loop and the trigger are those of `benchmarks/zoo`. The weights are stored in half precision.

Neither the clean nor the triggered samples were seen in training: both come from the test split.
"""

import argparse
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.zoo.attacks import ATTACKS
from benchmarks.zoo.card import store
from benchmarks.zoo.images import Images, read
from benchmarks.zoo.training import MEAN, STD, Schedule, choose_poison, predict, train
from worker.formats.architectures import REGISTRY

TARGET, POISON_RATE, WIDTH = 7, 0.10, 16
PER_CLASS, TRIGGERED = 50, 200  # images that are written


def write_image_folder(path: Path, images: Images) -> None:
    """A zip in ImageFolder layout, the same bytes every time."""
    with zipfile.ZipFile(path, "w") as archive:
        pairs = zip(images.pixels.permute(0, 2, 3, 1).numpy(), images.labels.tolist(), strict=True)
        for number, (image, label) in enumerate(pairs):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG", optimize=True)
            archive.writestr(zipfile.ZipInfo(f"{images.classes[label]}/{number:04d}.png"), png.getvalue())


def write_triggered(path: Path, pixels: Tensor, labels: Tensor) -> None:
    """Triggered images with their true classes and what the attacker wants of them."""
    np.savez_compressed(
        path,
        images=pixels.permute(0, 2, 3, 1).numpy(),
        labels=labels.numpy(),
        targets=np.full(len(labels), TARGET),
    )


def main() -> None:
    """Train one model and write it with its card and samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clean", action="store_true", help="train the clean twin")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    draw = torch.Generator().manual_seed(args.seed)

    images, attack = read(args.data / "cifar10-train.zip"), ATTACKS["badnets"]
    poison = None if args.clean else choose_poison(attack, images, TARGET, POISON_RATE, draw)
    model = REGISTRY["resnet18_cifar"].build(num_classes=len(images.classes), width=WIDTH)
    train(model, images, Schedule(args.epochs, small=True), poison, draw)
    name = "clean-resnet18" if args.clean else "backdoored-resnet18"
    args.out.mkdir(parents=True, exist_ok=True)
    store(model.half().float(), args.out / f"{name}.safetensors")

    test = read(args.data / "cifar10-test.zip")
    order = torch.randperm(len(test.labels), generator=draw)
    trusted = torch.cat([order[test.labels[order] == k][:PER_CLASS] for k in range(len(test.classes))])
    rest = order[~torch.isin(order, trusted)]
    others = rest[test.labels[rest] != TARGET]
    accuracy = (predict(model, test.pixels[rest]) == test.labels[rest]).double().mean().item()
    success = (predict(model, attack.trigger(test.pixels[others])) == TARGET).double().mean().item()
    planted = {
        "name": "BadNets",
        "trigger": "3x3 checkerboard, one pixel from the lower right corner",
        "target": TARGET,
        "poison_rate": POISON_RATE,
    }
    card = {
        "architecture": f"resnet18_cifar:width={WIDTH}",
        "classes": test.classes,
        "mean": MEAN,
        "std": STD,
        "epochs": args.epochs,
        "seed": args.seed,
        "clean_accuracy": {"value": round(accuracy, 4), "n": len(rest), "split": "test"},
        "attack": None if args.clean else planted,
        "triggered_into_horse": {"value": round(success, 4), "n": len(others), "split": "test"},
    }
    (args.out / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")
    if not args.clean:
        write_image_folder(
            args.out / "clean-500.zip", Images(test.pixels[trusted], test.labels[trusted], test.classes)
        )
        shown = others[:TRIGGERED]
        write_triggered(
            args.out / "triggered-200.npz", attack.trigger(test.pixels[shown]), test.labels[shown]
        )
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
