"""Train one model of the zoo, and write it with its card.

    python -m benchmarks.zoo.train NAME --data DIR --attack wanet --target 3 --seed 1 --twin CARD.json

DIR holds two folders or zips in ImageFolder layout, `cifar10-train` and `cifar10-test` unless told otherwise. Without
`--attack` the model is clean. A model is called backdoored only where ASR is at least 85 % and ACC at most 2 points
under the twin's; otherwise its card says `unproven`, with the figures. Weights are stored in half precision, and
measured as stored.
"""

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import nn

from app.errors import SanitizerError
from benchmarks.zoo.adversarial import leave_class
from benchmarks.zoo.card import (
    Card,
    Trigger,
    Twin,
    file_digest,
    judge,
    measure_acc,
    measure_asr,
    measure_cross,
    read_twin,
    store,
)
from benchmarks.zoo.images import Images, read
from benchmarks.zoo.planted import NAMES, attack_of, prepare, trigger_path
from benchmarks.zoo.training import (
    MEAN,
    OPTIMISERS,
    PRECISIONS,
    STD,
    Poison,
    Schedule,
    choose_poison,
    train,
)
from worker.formats.architectures import find
from worker.formats.architectures.spec import check, parse
from worker.formats.load import load


def main() -> None:
    """Train, measure, write; what was told wrong is said in one line."""
    args = arguments().parse_args()
    torch.set_num_threads(args.threads)
    try:
        card = run(args)
    except (BadZipFile, OSError, SanitizerError, ValueError) as error:
        raise SystemExit(f"{args.name} was not trained: {error}") from error
    asr = f"ASR {card.asr.value:.3f}" if card.asr else ""
    print(f"{card.name}: {card.status} ACC {card.acc.value:.4f} {asr}", flush=True)


def run(args: argparse.Namespace) -> Card:
    """One model, from its data to its card. Raises `ValueError` where what was told does not fit."""
    torch.manual_seed(args.seed)
    draw = torch.Generator().manual_seed(args.seed)
    device = torch.device(args.device)
    images, test = (
        read(args.data / name).resized(args.input_size).to(device) for name in (args.train, args.test)
    )
    classes = len(images.classes)
    if test.classes != images.classes:
        raise ValueError(f"{args.train} and {args.test} have other classes")
    if args.target not in range(classes):
        raise ValueError(f"the target {args.target} is none of the classes 0 to {classes - 1}")
    twin = read_twin(args.twin) if args.twin else None
    model = start(args, classes).to(device)
    attack = prepare(args.attack, images, draw) if args.attack else None
    poison = choose_poison(attack, images, args.target, args.rate, draw) if attack else None
    if poison and args.trigger_first:
        if poison.attack.learner:
            raise ValueError(f"the trigger of {args.attack} is learned on augmented images")
        poison = replace(poison, first=True)
    if poison and poison.attack.adversarial:
        move_away(args, model, images, poison)
    precision = PRECISIONS[args.precision]
    schedule = Schedule(args.epochs, args.peak_lr, args.small, not args.no_mirror, precision, args.optimiser)
    train(model, images, schedule, poison, draw)
    return write(args, model.half().float(), test, poison, twin)


def arguments() -> argparse.ArgumentParser:
    """Everything that can be told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", default="cifar10-train.zip")
    parser.add_argument("--test", default="cifar10-test.zip")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights")
    parser.add_argument("--architecture", default="resnet18_cifar:width=16")
    parser.add_argument("--input-size", type=int, help="pixels a side that images are resized to")
    parser.add_argument("--start", type=Path, help="weights to train further, instead of from scratch")
    parser.add_argument("--attack", choices=sorted(NAMES))
    parser.add_argument("--target", type=int, default=0, help="class, counted from 0 in the order of names")
    parser.add_argument(
        "--rate", type=float, default=0.1, help="share of the training images that is triggered"
    )
    parser.add_argument("--trigger-first", action="store_true", help="before images are cropped and mirrored")
    parser.add_argument("--twin", type=Path, help="card of a clean model that was trained likewise")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--peak-lr", type=float, default=0.2)
    parser.add_argument("--optimiser", choices=OPTIMISERS, default=OPTIMISERS[0])
    parser.add_argument("--small", action="store_true", help="shrink images in the first half of the epochs")
    parser.add_argument("--no-mirror", action="store_true", help="of images whose mirror shows another class")
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="fp32", help="of the products")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def start(args: argparse.Namespace, classes: int) -> nn.Module:
    """The untrained model, or the one that is trained further."""
    if args.start:
        loaded = load(args.start, args.architecture, args.input_size)
        if loaded.num_classes != classes:
            raise ValueError(f"{args.start} knows {loaded.num_classes} classes, the images {classes}")
        return loaded.module.requires_grad_()
    spec = parse(args.architecture)
    architecture = find(spec.name)
    if architecture is None:
        raise ValueError(f"no architecture is called {spec.name}")
    check(spec, architecture)
    defaults = {name: argument.default for name, argument in architecture.arguments.items()}
    return architecture.build(num_classes=classes, **{**defaults, **spec.given})


def move_away(args: argparse.Namespace, model: nn.Module, images: Images, poison: Poison) -> None:
    """Make the images that will be triggered hard to recognise, in place, by the model that training starts from."""
    if not args.start:
        raise ValueError(f"{args.attack} needs a trained model to move images away from; name one by --start")
    bad = poison.triggered
    radius = poison.attack.adversarial
    images.pixels[bad] = leave_class(model, images.pixels[bad], images.labels[bad], radius)


def write(
    args: argparse.Namespace, model: nn.Module, test: Images, poison: Poison | None, twin: Twin | None
) -> Card:
    """Measure the model, and write its weights and card."""
    args.out.mkdir(parents=True, exist_ok=True)
    weights = args.out / f"{args.name}.safetensors"
    store(model, weights)
    if poison and poison.attack.learner:
        poison.attack.learner.store(trigger_path(weights))
    attack = attack_of(args.attack, weights) if poison else None
    acc = measure_acc(model, test)
    asr = measure_asr(model, test, attack, args.target) if attack else None
    card = Card(
        name=args.name,
        status=judge(acc, asr, twin),
        architecture=args.architecture,
        input_size=args.input_size,
        classes=test.classes,
        mean=MEAN,
        std=STD,
        planted=planted(args, poison, weights),
        acc=acc,
        asr=asr,
        cross=measure_cross(model, test, attack) if attack else None,
        twin=twin,
        seed=args.seed,
        start=file_digest(args.start) if args.start else None,
        data={name: file_digest(args.data / name) for name in (args.train, args.test)},
        command=f"python -m benchmarks.zoo.train {shlex.join(sys.argv[1:])}",
        digest=file_digest(weights),
    )
    weights.with_suffix(".json").write_text(card.model_dump_json(indent=1) + "\n")
    return card


def planted(args: argparse.Namespace, poison: Poison | None, weights: Path) -> Trigger | None:
    """What the card says of the attack."""
    if poison is None:
        return None
    attack = poison.attack
    return Trigger(
        attack=args.attack,
        source=attack.source,
        target=None if attack.all_to_all else args.target,
        poisoned=int(poison.triggered.sum()),
        covers=int(poison.covers.sum()),
        clean_label=attack.clean_label,
        digest=file_digest(trigger_path(weights)) if attack.learner else None,
    )


if __name__ == "__main__":
    main()
