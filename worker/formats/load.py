"""A model file -> a `LoadedModel`, and back into a file of the same format.

Knows files and tensors; knows nothing of jobs, HTTP or the science.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from app.errors import ModelError
from worker.formats import identify, normalisation
from worker.formats.interface import LoadedModel
from worker.formats.stored import read_stored, write_stored

SHOWN = 3  # names of tensors in a message
# How a module says that images are of a size it cannot take: layers of torch, then those of vision transformers.
WRONG_SIZE = (RuntimeError, ValueError, AssertionError)


def load(path: Path, architecture: str = identify.AUTO, input_size: int | None = None) -> LoadedModel:
    """Read, identify and check a model. Raises `ModelError`, and `OptionsError` on an impossible architecture.

    `input_size` is the height and width of the images where the model was trained on others than its architecture's
    own. The normalisation is none at all until samples have chosen one.
    """
    stored = read_stored(path)
    _check_finite(stored.tensors)
    resolved = identify.resolve(stored.tensors, architecture, stored.prefix)
    channels, height, width = resolved.input_shape
    shape = (channels, input_size or height, input_size or width)
    loaded = LoadedModel(
        module=resolved.module,
        input_shape=shape,
        num_classes=resolved.num_classes,
        architecture=resolved.architecture,
        identified=resolved.identified,
        stored=stored,
        normalisation=normalisation.parse(normalisation.NONE, channels),
    )
    _check_forward(loaded)
    return loaded


def save(model: LoadedModel, tensors: Mapping[str, Tensor], target: Path) -> None:
    """Write `tensors`, under the keys of the file, in the format the model came in. Raises `OSError`."""
    write_stored(model.stored, tensors, target)


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    bad = [key for key, t in tensors.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if bad:
        listed = ", ".join(repr(key) for key in bad[:SHOWN])
        raise ModelError(
            f"{len(bad)} of {len(tensors)} tensors hold NaN or infinity: {listed}.",
            code="model.not_finite",
            remedy="Export the weights again; a model that computes with NaN predicts nothing.",
        )


def _check_forward(model: LoadedModel) -> None:
    """One black image must give one finite row of logits."""
    try:
        with torch.inference_mode():
            logits = model.module(torch.zeros(1, *model.input_shape))
    except WRONG_SIZE as error:
        raise ModelError(
            f"{model.architecture} cannot take images of {model.input_shape[1]}×{model.input_shape[2]} pixels.",
            code="model.input_size",
            remedy="Leave --input-size out, or name the size the model was trained on.",
        ) from error
    if logits.shape != (1, model.num_classes) or not bool(logits.isfinite().all()):
        raise ModelError(
            "The model does not answer a black image with one finite number for each class.",
            code="model.not_finite",
            remedy="Check the file with the program that made it; its weights may be damaged.",
        )
