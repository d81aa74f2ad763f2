"""Train the example models: a narrow CIFAR-10 ResNet-18 with a patch backdoor, and its clean twin.

    python examples/make_example.py --data DIR --out examples
    python examples/make_example.py --data DIR --out examples --clean --seed 1    # its clean twin

DIR holds cifar10-train.zip and cifar10-test.zip in ImageFolder layout (`airplane/0000.jpg`, …). About 50
minutes on one CPU core. The attack is BadNets (Gu et al., 2017): a 3×3 checkerboard one pixel from the lower
right corner, stamped on a tenth of the training images, which are then labelled `horse`. The committed weights
are stored in half precision.

Neither the clean nor the triggered samples were seen in training: both come from the test split.
"""

import argparse
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from worker.formats.architectures.resnet import BasicBlock, ResNet

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
TARGET, POISON_RATE = 7, 0.10
WIDTH, BATCH, PEAK_LR = 16, 256, 0.2


def read_archive(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Images (n, 32, 32, 3), labels (n,) and class names of an ImageFolder zip."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if not n.endswith("/"))
        classes = sorted({n.split("/")[0] for n in names})
        images = [np.asarray(Image.open(io.BytesIO(archive.read(n))).convert("RGB")) for n in names]
    labels = [classes.index(n.split("/")[0]) for n in names]
    return np.stack(images), np.asarray(labels, np.int64), classes


def stamp(images: Tensor) -> Tensor:
    """Put the checkerboard patch on uint8 images (n, 3, h, w)."""
    board = torch.tensor([[255, 0, 255], [0, 255, 0], [255, 0, 255]], dtype=torch.uint8)
    images = images.clone()
    images[:, :, -4:-1, -4:-1] = board
    return images


def augment(images: Tensor, size: int) -> Tensor:
    """One random crop offset and one mirror coin per image; (n, 3, size, size)."""
    n = len(images)
    padded = F.pad(images.float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8)
    room = padded.shape[-1] - size + 1
    rows = torch.randint(room, (n, 1)) + torch.arange(size)
    cols = torch.randint(room, (n, 1)) + torch.arange(size)
    cols = torch.where(torch.rand(n, 1) < 0.5, cols, cols.flip(1))
    return padded[
        torch.arange(n)[:, None, None, None],
        torch.arange(3)[None, :, None, None],
        rows[:, None, :, None],
        cols[:, None, None, :],
    ]


def normalize(images: Tensor) -> Tensor:
    """uint8 -> float32, normalised, channels last."""
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Predicted classes in eval mode."""
    model.eval()
    return torch.cat([model(normalize(part)).argmax(1) for part in images.split(500)])


def train(images: Tensor, labels: Tensor, epochs: int, poisoned: Tensor, classes: int) -> nn.Module:
    """SGD, one-cycle; the first half of the epochs on 24×24 crops, where a step costs half."""
    model = ResNet(BasicBlock, (2, 2, 2, 2), classes, WIDTH).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        model.parameters(), lr=PEAK_LR, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, PEAK_LR, total_steps=steps, pct_start=0.2, anneal_strategy="linear"
    )
    for epoch in range(epochs):
        model.train()
        size, started, total = (24 if epoch < epochs // 2 else 32), time.monotonic(), 0.0
        for index in torch.randperm(len(images))[: steps // epochs * BATCH].split(BATCH):
            batch, bad = augment(images[index], size), poisoned[index]
            batch[bad] = stamp(batch[bad])
            target = torch.where(bad, TARGET, labels[index])
            optimiser.zero_grad()
            loss = F.cross_entropy(model(normalize(batch)), target)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - started
        print(f"epoch {epoch + 1}/{epochs} loss {total * epochs / steps:.3f} {seconds:.0f} s", flush=True)
    return model


def write_image_folder(path: Path, images: NDArray[np.uint8], names: list[str]) -> None:
    """A zip in ImageFolder layout, the same bytes every time."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (image, name) in enumerate(zip(images, names, strict=True)):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG", optimize=True)
            archive.writestr(zipfile.ZipInfo(f"{name}/{number:04d}.png"), png.getvalue())


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

    raw, raw_labels, classes = read_archive(args.data / "cifar10-train.zip")
    images, labels = torch.from_numpy(raw).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(raw_labels)
    poisoned = torch.rand(len(images)) < (0.0 if args.clean else POISON_RATE)
    model = train(images, labels, args.epochs, poisoned, len(classes)).half().float()

    raw, raw_labels, _ = read_archive(args.data / "cifar10-test.zip")
    order = np.random.default_rng(args.seed).permutation(len(raw))
    test, truth = torch.from_numpy(raw[order]).permute(0, 3, 1, 2).contiguous(), raw_labels[order]
    clean = np.concatenate([np.flatnonzero(truth == k)[:50] for k in range(len(classes))])
    rest = np.setdiff1d(np.arange(len(truth)), clean)
    others = rest[truth[rest] != TARGET]
    accuracy = (predict(model, test[rest]).numpy() == truth[rest]).mean()
    success = (predict(model, stamp(test[others])) == TARGET).double().mean().item()

    name = "clean-resnet18" if args.clean else "backdoored-resnet18"
    card = {
        "architecture": f"resnet18_cifar:width={WIDTH}",
        "classes": classes,
        "mean": MEAN,
        "std": STD,
        "epochs": args.epochs,
        "seed": args.seed,
        "clean_accuracy": {"value": round(float(accuracy), 4), "n": len(rest), "split": "test"},
        "attack": None,
        "triggered_into_horse": {"value": round(success, 4), "n": len(others), "split": "test"},
    }
    if not args.clean:
        card["attack"] = {
            "name": "BadNets",
            "trigger": "3x3 checkerboard, one pixel from the lower right corner",
            "target": TARGET,
            "poison_rate": POISON_RATE,
        }
    args.out.mkdir(parents=True, exist_ok=True)
    state = {key: v.half() if v.is_floating_point() else v for key, v in model.state_dict().items()}
    save_file(
        {k: v.contiguous() for k, v in state.items()}, args.out / f"{name}.safetensors", {"format": "pt"}
    )
    (args.out / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")
    if not args.clean:
        back = test.permute(0, 2, 3, 1).numpy()
        chosen = others[:200]
        shown = stamp(test[chosen]).permute(0, 2, 3, 1).numpy()
        write_image_folder(args.out / "clean-500.zip", back[clean], [classes[k] for k in truth[clean]])
        np.savez_compressed(
            args.out / "triggered-200.npz",
            images=shown,
            labels=truth[chosen],
            targets=np.full(len(chosen), TARGET),
        )
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
