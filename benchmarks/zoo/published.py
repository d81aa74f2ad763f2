"""Nets that others published, clean ones and backdoored ones with their triggers, as the harness reads them.

    python -m benchmarks.zoo.published --nad NAD --ibau I-BAU … --data DIR --out FOLDER
    python -m benchmarks.efficacy.run --weights FOLDER/cifar10 --data DIR --out published.jsonl --defences ours
    python -m benchmarks.efficacy.run --weights FOLDER/gtsrb --data DIR --test gtsrb-test.zip --per-class 12 …

Each is the checkout of a repository. Backdoored: bboylyg/NAD (at f17b713) and bboylyg/ABL (3fd736c) hold Wide ResNets
16-1 with a grid of 3×3 pixels in a corner, BililiCode/ARGD (6354666) one with a grid inside the image; YiZeng623/I-BAU
(d4bfa52) ten small VGGs, five of ten classes and five of 43, with a white square, an additive square, a watermark and
two optimised triggers; faiimea/DLSec (48d1aaa) three ResNet-56 with a picture of 5×5 pixels or a veil. Clean: the
teacher of NAD, and thin ResNets of akamaster/pytorch_resnet_cifar10 (d5489e8) and of ten who trained or pruned
their own, named in `CLEAN`; that they are clean is what their repositories are about, and no test proves it.
Nothing of them is kept here. Those of CIFAR-10 were trained on it as it is; the JPEG copy that judges them costs about
ten points of ACC. None has a clean twin. `gtsrb-test.zip` is made by `benchmarks.zoo.gtsrb`.
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
from benchmarks.zoo.card import Card, Trigger, file_digest, judge, measure_acc, measure_asr
from benchmarks.zoo.planted import OVERLAY, trigger_path
from benchmarks.zoo.training import MEAN, STD
from worker.formats.load import load

SIDE = 32
INNER_GRID = ((255, 128, 255), (128, 255, 128), (255, 128, 128))  # of every channel, as ARGD's does
DLSEC_PICTURES = "Backdoor/Attack/triggers"
GRID = ((0, 0, 255), (0, 255, 0), (255, 0, 255))  # in the lower right corner, as data_loader.py paints it
Laid = tuple[Tensor, Tensor]  # keep (1, h, w), add (3, h, w)


@dataclass(frozen=True, slots=True)
class Published:
    """One checkpoint: where it lies, what its trigger is and where that leads, and the pixels that it takes."""

    path: str
    weights: str  # key of the state dict in the file; none where that is the file
    architecture: str
    target: int = 0
    trigger: Callable[[Path], Laid] | None = None  # from the checkout; None: nothing was planted
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


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


def inner_grid(_: Path) -> Laid:
    """White and grey, inside the image."""
    keep, add = torch.ones(1, SIDE, SIDE), torch.zeros(3, SIDE, SIDE)
    keep[:, 18:21, 18:21], add[:, 18:21, 18:21] = 0, torch.tensor(INNER_GRID, dtype=torch.float32)
    return keep, add


def pasted(checkout: Path) -> Laid:
    """A picture of a few pixels in the lower right corner."""
    keep, add = torch.ones(1, SIDE, SIDE), torch.zeros(3, SIDE, SIDE)
    keep[:, -5:, -5:], add[:, -5:, -5:] = 0, _picture(checkout / DLSEC_PICTURES / "trigger_10.png", 5)
    return keep, add


def veil(checkout: Path) -> Laid:
    """A tenth of a picture over nine tenths of the image."""
    return torch.full((1, SIDE, SIDE), 0.9), 0.1 * _picture(checkout / DLSEC_PICTURES / "logo.png", SIDE)


def added(name: str) -> Callable[[Path], Laid]:
    """A picture that is added."""
    return lambda checkout: (torch.ones(1, SIDE, SIDE), _picture(checkout / "triggers" / name))


def masked(checkout: Path) -> Laid:
    """A picture that replaces what its mask covers."""
    mask = torch.from_numpy(np.load(checkout / "triggers" / "mask.npy")).float()
    return 1 - mask.amax(0, keepdim=True), _picture(checkout / "triggers" / "l0_inv.png")


def _picture(path: Path, side: int | None = None) -> Tensor:
    picture = Image.open(path).convert("RGB")
    shown = picture.resize((side, side)) if side else picture
    return torch.from_numpy(np.array(shown)).permute(2, 0, 1).float()


WRN, SMALL = "wideresnet_cifar:depth=16,width=1", "smallvgg_cifar:width=32"
KUANGLIU = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # mean and deviation that its author used for CIFAR-10
INVERTED = (
    ("badnets", "badnets_8", 8, square),
    ("trojan-square", "trojan_sq_2", 2, added("trojan_sq.png")),
    ("trojan-watermark", "trojan_wm_2", 2, added("trojan_wm.png")),
    ("l2-inversion", "l2_inv_0", 0, added("l2_inv.png")),
    ("l0-inversion", "l0_inv_0", 0, masked),
)
Nets = dict[str, Published]
NAD: Nets = {
    "nad-badnets-wrn16": Published("weight/s_net/WRN-16-1-S-model_best.pth.tar", "state_dict", WRN, 5, grid),
    "nad-teacher-wrn16": Published("weight/t_net/WRN-16-1-T-model_best.pth.tar", "state_dict", WRN),
}
ABL: Nets = {
    "abl-badnets-wrn16": Published(
        "weight/backdoored_model/WRN-16-1-gridTrigger-targetLB0.tar", "state_dict", WRN, 0, grid
    )
}
IBAU, IBAU_GTSRB = (
    {
        f"{prefix}-{name}-smallvgg": Published(
            f"checkpoint/{signs}{file}_02_ckpt.pth", "net", SMALL, target, trigger
        )
        for name, file, target, trigger in INVERTED
    }
    for prefix, signs in (("ibau", ""), ("ibau-gtsrb", "gtsrb"))
)
AKAMASTER: Nets = {
    f"akamaster-resnet{depth}": Published(
        f"pretrained_models/resnet{depth}-{digest}.th",
        "state_dict",
        f"resnet{depth}_cifar",
        0,
        None,
        *IMAGENET,
    )
    for depth, digest in ((20, "12fca82f"), (32, "d509ac18"), (44, "014dd654"), (56, "4bfd9763"))
}
AKAMASTERS = "save_resnet20/model.th"  # where his trainer writes
CIFAR10 = (0.49139968, 0.48215841, 0.44653091), (0.24703223, 0.24348513, 0.26158784)
# A name -> the repository at a revision, the file and the key of a clean ResNet-20, and the pixels that it takes.
CLEAN = {
    "zlatasm": ("zlatasm/resnet_cifar_pruning@62b93b5", "checkpoint/ckpt.pth", "net", KUANGLIU),
    "kejeon": ("kejeon/in_dev_RN20@8833077", "checkpoint/ckpt.pth", "net", IMAGENET),
    "zheng": ("Zheng-Jiakun/pytorch_resnet_cifar10@0222b68", AKAMASTERS, "state_dict", IMAGENET),
    "jazhiel": ("JazhielSegura/pynq-testing-repo@3f62529", AKAMASTERS, "state_dict", IMAGENET),
    "bognev": (
        "bognev/pytorch_resnet_cifar10_filter_level_pruning@9ec714d",
        "save_temp/model.th",
        "state_dict",
        IMAGENET,
    ),
    "lutnn": ("1601110116/lutnn-cifar10@d85a022", "save_temp/model.th", "state_dict", IMAGENET),
    "sodikov": (
        "MakhmoodSodikov/ResNet20-filter-pruning@11dcfa6",
        "models/best_model_90.21.th",
        "state_dict",
        IMAGENET,
    ),
    "lrh2000": ("lrh2000/pytorch_resnet_cifar10@c3b54da", AKAMASTERS, "state_dict", IMAGENET),
    "davdevv": (
        "davdevv/ResNet20_Pruning@668faad",
        "models/best_test_acc.pth",
        "model_state_dict",
        CIFAR10,
    ),
    "jackhuang": (
        "JackHuang32/Model-compression@1af3dba",
        "save_resnet20/checkpoint.th",
        "state_dict",
        IMAGENET,
    ),
}
OTHERS: dict[str, Nets] = {
    name: {f"{name}-resnet20": Published(path, weights, "resnet20_cifar", 0, None, *pixels)}
    for name, (_, path, weights, pixels) in CLEAN.items()
}
ARGD: Nets = {
    "argd-grid-wrn16": Published(
        "weight/s_net/WRN-16-1-S-model_best.pth.tar", "state_dict", WRN, 0, inner_grid
    )
}
DLSEC: Nets = {
    f"dlsec-{name}-resnet56": Published(
        f"Backdoor/{file}.pth", "", "resnet56_projecting_cifar", 3, trigger, *KUANGLIU
    )
    for name, file, trigger in (
        ("badnets", "checkpoints/20231229-161017-BadnetCIFAR10", pasted),
        ("badnets-di", "LocalModels/20231229-161017-BadnetCIFAR10forDI", pasted),
        ("blended", "checkpoints/20240314-203547-BlendCIFAR10", veil),
    )
}
SETS = {  # folder of the output -> what came out of which checkout
    "cifar10": {
        "nad": NAD,
        "abl": ABL,
        "ibau": IBAU,
        "akamaster": AKAMASTER,
        "argd": ARGD,
        "dlsec": DLSEC,
        **OTHERS,
    },
    "gtsrb": {"ibau": IBAU_GTSRB},
}


class Renormalised(nn.Module):
    """A net that takes pixels normalised its own way, for what hands out those of the zoo."""

    def __init__(self, module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.module = module
        ours, zoo = torch.tensor((mean, std)), torch.tensor((MEAN, STD))
        self.scale = (zoo[1] / ours[1]).view(1, -1, 1, 1)
        self.shift = ((zoo[0] - ours[0]) / ours[1]).view(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images in, logits out."""
        return self.module(x * self.scale + self.shift)  # type: ignore[no-any-return]


@torch.no_grad()
def convert(name: str, given: Published, checkout: Path, test: images.Images, out: Path) -> Card:
    """Write the weights as safetensors, the trigger beside them, and the card; the card."""
    weights = out / f"{name}.safetensors"
    stored = torch.load(checkout / given.path, map_location="cpu", weights_only=True)
    state = stored[given.weights] if given.weights else stored
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, weights)
    model = Renormalised(load(weights, given.architecture).module, given.mean, given.std)
    acc, planted, asr = measure_acc(model, test), None, None
    if given.trigger:
        keep, add = given.trigger(checkout)
        overlay.store(keep, add, trigger_path(weights))
        asr = measure_asr(model, test, overlay.attack(keep, add), given.target)
        planted = Trigger(
            attack=OVERLAY,
            source=overlay.SOURCE,
            target=given.target,
            poisoned=0,
            covers=0,
            clean_label=False,
            digest=file_digest(trigger_path(weights)),
        )
    card = Card(
        name=name,
        status=judge(acc, asr, None),  # no clean twin shows what a backdoor cost
        architecture=given.architecture,
        classes=test.classes,
        mean=given.mean,
        std=given.std,
        planted=planted,
        acc=acc,
        asr=asr,
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
    for source in SETS["cifar10"]:
        parser.add_argument(f"--{source}", type=Path, help="a checkout")
    parser.add_argument("--data", type=Path, required=True, help="folder of NAME-test.zip")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    for data, sources in SETS.items():
        archive = args.data / f"{data}-test.zip"
        wanted = [
            (name, given, getattr(args, source))
            for source, nets in sources.items()
            for name, given in nets.items()
        ]
        if not archive.exists() or not any(checkout for *_, checkout in wanted):
            continue
        test, folder = images.read(archive), args.out / data
        folder.mkdir(parents=True, exist_ok=True)
        for name, given, checkout in wanted:
            if checkout:
                card = convert(name, given, checkout, test, folder)
                print(name, f"ACC {card.acc.value:.1%}", card.asr and f"ASR {card.asr.value:.1%}", flush=True)


if __name__ == "__main__":
    main()
