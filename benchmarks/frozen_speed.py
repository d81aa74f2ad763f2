"""What folding BatchNorm saves the search for perturbations: one pass forward and back, down to the images.

    python -m benchmarks.frozen_speed [MODEL …] [--images 320] [--repeats 9]

Plain and folded take turns on one thread, so that a busy moment hits both; printed are the medians and their ratio.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import torch

from benchmarks.efficacy.subjects import WEIGHTS, classifier
from worker.classifier import Classifier
from worker.device import place
from worker.frozen import frozen

MODELS = (WEIGHTS / "badnets-vgg16.safetensors", WEIGHTS / "wanet-resnet18.safetensors")


def seconds(model: Classifier, pixels: torch.Tensor) -> float:
    """Of one pass forward and back."""
    images = pixels.clone().requires_grad_()
    started = time.perf_counter()
    with model.placement.autocast():
        logits = model.module(model.standardise(images)).float()
    logits.sum().backward()
    return time.perf_counter() - started


def main() -> None:
    """Print a row for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", default=MODELS)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pixels = torch.rand(args.images, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    print("| model | precision | plain, s | folded, s | ratio |\n|---|---|---|---|---|")
    for path in args.models:
        suspect = classifier(path, place("cpu"))
        plain = suspect.with_module(suspect.copy().eval().requires_grad_(requires_grad=False))
        folded = frozen(suspect, torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
        seconds(plain, pixels), seconds(folded, pixels)  # both are warm before anything counts
        pairs = [(seconds(plain, pixels), seconds(folded, pixels)) for _ in range(args.repeats)]
        slow, fast = (median(times) for times in zip(*pairs, strict=True))
        precision = str(suspect.placement.precision).removeprefix("torch.")
        print(f"| {path.stem} | {precision} | {slow:.3f} | {fast:.3f} | {fast / slow:.2f} |", flush=True)


if __name__ == "__main__":
    main()
