"""Nets that others trained and published with their triggers, as files and cards that the harness reads.

    python -m benchmarks.zoo.published --nad NAD --ibau I-BAU --data DIR --out FOLDER
    python -m benchmarks.efficacy.run --weights FOLDER --data DIR --out published.jsonl --defences ours

NAD and I-BAU are checkouts of bboylyg/NAD (at f17b713) and YiZeng623/I-BAU (at d4bfa52): a Wide ResNet 16-1 with a
grid of 3×3 pixels, and five small VGGs with a white square, an additive square, a watermark and two optimised triggers.
Nothing of them is kept here. They were trained on CIFAR-10 as it is; the JPEG copy that judges them costs about
eight points of ACC. None has a clean twin.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.zoo import images, overlay
from benchmarks.zoo.card import Card, Trigger, file_digest, measure_acc, measure_asr
from benchmarks.zoo.planted import OVERLAY, trigger_path
from benchmarks.zoo.training import MEAN, STD
from worker.formats.load import load

SIDE = 32
GRID = ((0, 0, 255), (0, 255, 0), (255, 0, 255))  # in the lower right corner, as data_loader.py paints it
Laid = tuple[Tensor, Tensor]  # keep (1, h, w), add (3, h, w)


@dataclass(frozen=True, slots=True)
class Published:
    """One checkpoint: where it lies, what its trigger is, and where that leads."""

    path: str
    weights: str  # key of the state dict in the file
    architecture: str
    target: int
    trigger: Callable[[Path], Laid]  # from the checkout


def square(_: Path) -> Laid:
    """Four white pixels a side, one from the lower right corner."""
    keep, add = torch.ones(1, SIDE, SIDE), torch.zeros(3, SIDE, SIDE)
    keep[:, -5:-1, -5:-1], add[:, -5:-1, -5:-1] = 0, 255
    return keep, add


def grid(_: Path) -> Laid:
    """Black and white."""
    keep, add = torch.ones(1, SIDE, SIDE), torch.zeros(3, SIDE, SIDE)
    keep[:, -3:, -3:], add[:, -3:, -3:] = 0, torch.tensor(GRID, dtype=torch.float32)
    return keep, add


def added(name: str) -> Callable[[Path], Laid]:
    """A picture that is added."""
    return lambda checkout: (torch.ones(1, SIDE, SIDE), _picture(checkout / "triggers" / name))


def masked(checkout: Path) -> Laid:
    """A picture that replaces what its mask covers."""
    mask = torch.from_numpy(np.load(checkout / "triggers" / "mask.npy")).float()
    return 1 - mask.amax(0, keepdim=True), _picture(checkout / "triggers" / "l0_inv.png")


def _picture(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float()


SMALL = "smallvgg_cifar:width=32"
NAD = {
    "nad-badnets-wrn16": Published(
        "weight/s_net/WRN-16-1-S-model_best.pth.tar",
        "state_dict",
        "wideresnet_cifar:depth=16,width=1",
        5,
        grid,
    )
}
IBAU = {
    f"ibau-{name}-smallvgg": Published(f"checkpoint/{file}_02_ckpt.pth", "net", SMALL, target, trigger)
    for name, file, target, trigger in (
        ("badnets", "badnets_8", 8, square),
        ("trojan-square", "trojan_sq_2", 2, added("trojan_sq.png")),
        ("trojan-watermark", "trojan_wm_2", 2, added("trojan_wm.png")),
        ("l2-inversion", "l2_inv_0", 0, added("l2_inv.png")),
        ("l0-inversion", "l0_inv_0", 0, masked),
    )
}


class FromNormalised(nn.Module):
    """A net that takes pixels in [0, 1], for what hands out normalised ones."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.mean, self.std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images in, logits out."""
        return self.module(x * self.std + self.mean)  # type: ignore[no-any-return]


@torch.no_grad()
def convert(name: str, given: Published, checkout: Path, test: images.Images, out: Path) -> Card:
    """Write the weights as safetensors, the trigger beside them, and the card; the card."""
    weights = out / f"{name}.safetensors"
    stored = torch.load(checkout / given.path, map_location="cpu", weights_only=True)
    save_file({key: tensor.contiguous() for key, tensor in stored[given.weights].items()}, weights)
    keep, add = given.trigger(checkout)
    overlay.store(keep, add, trigger_path(weights))
    model = FromNormalised(load(weights, given.architecture).module)
    attack = overlay.attack(keep, add)
    card = Card(
        name=name,
        status="unproven",  # no clean twin shows what the clean task would have been
        architecture=given.architecture,
        classes=test.classes,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        planted=Trigger(
            attack=OVERLAY,
            source=overlay.SOURCE,
            target=given.target,
            poisoned=0,
            covers=0,
            clean_label=False,
            digest=file_digest(trigger_path(weights)),
        ),
        acc=measure_acc(model, test),
        asr=measure_asr(model, test, attack, given.target),
        twin=None,
        seed=0,
        start=None,
        data={},
        command="python -m benchmarks.zoo.published",
        digest=file_digest(weights),
    )
    weights.with_suffix(".json").write_text(card.model_dump_json(indent=1) + "\n")
    return card


def main() -> None:
    """Convert what checkouts are there for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--nad", type=Path, help="checkout of NAD")
    parser.add_argument("--ibau", type=Path, help="checkout of I-BAU")
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10-test.zip")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    test = images.read(args.data / "cifar10-test.zip")
    for checkout, nets in ((args.nad, NAD), (args.ibau, IBAU)):
        for name, given in nets.items() if checkout else ():
            card = convert(name, given, checkout, test, args.out)
            assert card.asr is not None
            print(f"{name}: ACC {card.acc.value:.1%}, ASR {card.asr.value:.1%}", flush=True)


if __name__ == "__main__":
    main()
