"""Fold the BatchNorms of a VGG of the zoo into its convolutions: the same classifier without any normalisation.

    python -m benchmarks.zoo.fold badnets-vgg16 folded-badnets-vgg16 --data DIR

So are nets often shipped for inference, and masks on the scales of BatchNorm then find nothing to hold. The card is
that of the other model, with what was measured anew on the folded weights as they are stored.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from benchmarks.zoo.card import (
    Card,
    file_digest,
    judge,
    measure_acc,
    measure_asr,
    measure_cross,
    read_card,
    store,
)
from benchmarks.zoo.images import Images, read
from benchmarks.zoo.planted import attack_of, trigger_path
from worker.formats.architectures import REGISTRY
from worker.formats.architectures.vgg import VGG
from worker.formats.load import load

FROM, TO = "vgg16_bn_cifar", "vgg16_cifar"


def fold(model: VGG) -> dict[str, Tensor]:
    """The weights of the same function, in eval mode, with each BatchNorm inside the convolution before it."""
    layers: list[nn.Module] = []
    for layer in model.features:
        if isinstance(layer, nn.BatchNorm2d) and isinstance(layers[-1], nn.Conv2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    whole = nn.ModuleDict({"features": nn.Sequential(*layers), "classifier": model.classifier})
    return whole.state_dict()


def write(folder: Path, original: str, name: str, test: Images) -> Card:
    """Fold, store, measure, and write the card. Raises `ValueError` where the model is no VGG with BatchNorm."""
    card, model = read_card(folder / f"{original}.json"), load(folder / f"{original}.safetensors").module
    architecture, _, width = card.architecture.partition(":width=")
    if architecture != FROM or not isinstance(model, VGG):
        raise ValueError(f"{original} is no {FROM}")
    folded = REGISTRY[TO].build(num_classes=len(card.classes), width=int(width))
    folded.load_state_dict({key: value.half() for key, value in fold(model).items()})
    weights = folder / f"{name}.safetensors"
    store(folded, weights)
    acc, asr, cross, planted = measure_acc(folded, test), None, None, card.planted
    if planted and planted.digest:
        shutil.copyfile(trigger_path(folder / f"{original}.safetensors"), trigger_path(weights))
    if planted:
        attack = attack_of(planted.attack, weights)
        asr = measure_asr(folded, test, attack, planted.target or 0)
        cross = measure_cross(folded, test, attack)
    changed = {
        "name": name,
        "status": judge(acc, asr, card.twin),
        "architecture": f"{TO}:width={width}",
        "acc": acc,
        "asr": asr,
        "cross": cross,
        "start": card.digest,
        "command": f"python -m benchmarks.zoo.fold {shlex.join(sys.argv[1:])}",
        "digest": file_digest(weights),
    }
    folded_card = card.model_copy(update=changed)
    weights.with_suffix(".json").write_text(folded_card.model_dump_json(indent=1) + "\n")
    return folded_card


def main() -> None:
    """Fold one model of the zoo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("original")
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", default="cifar10-test.zip")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights")
    args = parser.parse_args()
    torch.set_num_threads(1)
    card = write(args.out, args.original, args.name, read(args.data / args.test))
    print(f"{card.name}: {card.status} ACC {card.acc.value:.4f}")


if __name__ == "__main__":
    main()
