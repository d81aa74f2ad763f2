"""Samples from a folder, a zip or an .npz, as tensors in the shape of the model's input. START READING HERE.

Knows files and tensors; knows nothing of jobs, HTTP or the science.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from app.contract.limits import input_limits
from app.contract.problem import Problem
from app.errors import OptionsError, SamplesError
from worker.samples import arrays
from worker.samples.archive import Opened, archive_entries, open_archive
from worker.samples.classes import CLASSES_JSON, Classes, assign, parse_classes_json
from worker.samples.entries import (
    Entry,
    entries_digest,
    file_digest,
    folder_entries,
    readable,
    shown,
    shown_some,
    too_many,
)
from worker.samples.images import Canvas, decode, quiet_decoders
from worker.samples.interface import SampleSet, TriggeredSet
from worker.samples.layout import Layout, image_folder

ACCEPTED = (
    "Give a folder or a zip with one folder of images per class, or an .npz with 'images' and 'labels'."
)


@dataclass(frozen=True, slots=True)
class _Labelled:
    """What all forms of samples have in common; `targets` only where an .npz has them."""

    canvas: Canvas
    labels: Tensor
    class_names: tuple[str, ...]
    targets: Tensor | None = None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the model takes; `known`: names of its classes, from samples that were read before."""

    num_classes: int
    input_shape: tuple[int, int, int]
    known: tuple[str, ...] | None = None


def read_samples(
    path: Path, num_classes: int, input_shape: tuple[int, int, int]
) -> tuple[SampleSet, tuple[Problem, ...]]:
    """The labelled images at `path`, uint8 (n, *input_shape), and warnings.

    A folder or zip in ImageFolder layout comes sorted by path, an .npz in its own order. Warnings:
    `samples.resized`, `samples.made_grey`, `samples.missing_class`, `samples.has_targets`.
    Raises `SamplesError`, whose code is listed where the rule lives: archive, entries, layout, classes, images, arrays.
    """
    found, digest = _read(path, _Wanted(num_classes, input_shape))
    samples = SampleSet(found.canvas.images(), found.labels, found.class_names, path.absolute().name, digest)
    return samples, (*found.canvas.warnings(), *_missing_classes(samples), *_suspicious(found))


def read_triggered(
    path: Path,
    num_classes: int,
    input_shape: tuple[int, int, int],
    target: int | None = None,
    class_names: tuple[str, ...] | None = None,
) -> TriggeredSet:
    """Images that carry a known trigger, uint8 (n, *input_shape), with true class and target class.

    The true class is the folder, or `labels` of an .npz; the target is `target`, or `targets` of an .npz.
    `class_names` are those of the clean samples, which give folder names their class where no classes.json does.
    Raises `SamplesError` as `read_samples` does, and no_other_class where every image is of its target class already;
    `OptionsError` (options.triggered_target) on a target that is missing, out of range, or another than the file says.
    """
    if target is not None and not 0 <= target < num_classes:
        raise _no_target(f"The target {target} is out of range: the model has {num_classes} classes.")
    found, digest = _read(path, _Wanted(num_classes, input_shape, class_names))
    targets = found.targets
    if targets is None:
        if target is None:
            raise _no_target("The triggered samples do not say which class the trigger aims at.")
        targets = torch.full_like(found.labels, target)
    elif target is not None and bool((targets != target).any()):
        raise _no_target(f"The target {target} is not what 'targets' in {shown(path.name)} says.")
    if bool((found.labels == targets).all()):
        raise SamplesError(
            "Every triggered image is of the class that its trigger aims at, so none can show an attack.",
            code="samples.no_other_class",
            remedy="Give triggered images of other classes, each labelled with its true class and not the target.",
        )
    return TriggeredSet(found.canvas.images(), found.labels, targets, path.absolute().name, digest)


def _read(path: Path, wanted: _Wanted) -> tuple[_Labelled, str]:
    """The samples and their digest."""
    with readable(path, ACCEPTED):
        if path.is_dir():
            layout = image_folder(folder_entries(path))
            return _from_folders(layout, wanted), entries_digest(layout.used())
        with open_archive(path, ACCEPTED) as archive:
            if path.suffix == ".npz" or "images" in arrays.members(archive):
                return _from_arrays(archive, wanted), file_digest(path)
            return _from_folders(image_folder(archive_entries(archive)), wanted), file_digest(path)


def _from_folders(layout: Layout, wanted: _Wanted) -> _Labelled:
    if len(layout.images) > input_limits().samples.images:
        raise too_many(input_limits().samples.images, "images")
    classes = _classes({folder for folder, _ in layout.images}, layout.classes_json, wanted)
    canvas = Canvas(len(layout.images), wanted.input_shape)
    with quiet_decoders():
        for _, entry in layout.images:
            canvas.add(decode(entry.read(), entry.name))
    labels = torch.tensor([classes.index[folder] for folder, _ in layout.images])
    return _Labelled(canvas, labels, classes.names)


def _classes(folders: set[str], classes_json: Entry | None, wanted: _Wanted) -> Classes:
    listed: Mapping[str, int] | None = None
    if classes_json is not None:
        data = classes_json.read()
        if len(data) > input_limits().samples.classes_json_bytes:
            raise SamplesError(
                f"{CLASSES_JSON} is too large.",
                code="samples.too_large",
                remedy="Give names only, one per class.",
            )
        listed = parse_classes_json(data, wanted.num_classes)
    elif wanted.known:
        listed = {name: place for place, name in enumerate(wanted.known)}
    return assign(folders, wanted.num_classes, listed)


def _from_arrays(archive: Opened, wanted: _Wanted) -> _Labelled:
    canvas = arrays.read_images(archive, wanted.input_shape)
    n = len(canvas.images())
    labels = arrays.read_classes(archive, "labels", n, wanted.num_classes)
    has_targets = "targets" in arrays.members(archive)
    targets = arrays.read_classes(archive, "targets", n, wanted.num_classes) if has_targets else None
    return _Labelled(canvas, labels, tuple(map(str, range(wanted.num_classes))), targets)


def _missing_classes(samples: SampleSet) -> tuple[Problem, ...]:
    counts = torch.bincount(samples.labels, minlength=len(samples.class_names)).tolist()
    missing = [name for name, count in zip(samples.class_names, counts, strict=True) if not count]
    if not missing:
        return ()
    return (
        Problem(
            code="samples.missing_class",
            detail=f"{len(missing)} of {len(counts)} classes have no image: {shown_some(missing)}.",
            remedy="Add images of every class: nothing can be said of harm to a class that is not there.",
        ),
    )


def _suspicious(found: _Labelled) -> tuple[Problem, ...]:
    if found.targets is None:
        return ()
    return (
        Problem(
            code="samples.has_targets",
            detail="The clean samples have an array 'targets', as triggered samples do; it was not used.",
            remedy="Check that these are the clean samples: a repair that learns from triggered images is worthless.",
        ),
    )


def _no_target(detail: str) -> OptionsError:
    return OptionsError(
        detail,
        code="options.triggered_target",
        remedy="Name the class the trigger aims at as an option, or give an .npz with 'targets'.",
    )
