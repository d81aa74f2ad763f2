"""The way in and out for every model file: told apart by content, read where the tensors lie, written back there.

Writing makes the file anew, in the layout of the uploaded one and around other numbers: names, order, dtypes, nesting,
metadata and training leftovers stay as they are. Reading refuses whatever writing would not make, so that without a
change the same bytes come out.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from app.contract.limits import input_limits
from app.errors import ModelError, OutputError
from worker.formats.checkpoint import Checkpoint
from worker.formats.interface import DAMAGED, SAVE_AGAIN, Format, Place, StoredModel
from worker.formats.safetensors import Safetensors

FORMATS: tuple[Format, ...] = (Safetensors(), Checkpoint())
WRAPPERS = ("module.", "_orig_mod.")  # DataParallel, torch.compile

_HEAD = 512
_CHUNK = 1 << 20
_KEY = re.compile(r"[A-Za-z0-9_.\-/:]+")
_CHECK_PATH = "Name one model file; of a folder, the file of weights in it."
_SUBMIT_TENSORS = "Submit the weights as safetensors, or as a state dict saved by torch.save."
_LEGACY_PICKLE = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_LEGACY_TAR = re.compile(rb"(\./)?(sys_info|pickle|tensors|storages)\0.{,255}ustar", re.DOTALL)
_OTHERS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(magic, re.DOTALL), what)
    for magic, what in (
        (rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42]", "an ONNX model; support for it is planned"),
        (rb"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it"),
        (rb"\x80[\x02-\x05]", "a bare pickle; loading it would run its code"),
        (
            rb"7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ|Rar!|\x28\xb5\x2f\xfd|.{257}ustar",
            "a packed archive; unpack it",
        ),
        (rb"version https://git-lfs", "a Git LFS pointer, not the model: run `git lfs pull`"),
    )
)


def read_stored(path: Path) -> StoredModel:
    """The tensors of a model file, float or not, in file order and file dtypes, each with memory of its own.

    Raises `ModelError`, and nothing else, on whatever cannot be read as a plain set of tensors.
    """
    try:
        if not path.exists():
            raise ModelError(f"There is no file {str(path)!r}.", code="model.missing", remedy=_CHECK_PATH)
        if not path.is_file():
            raise ModelError(f"{str(path)!r} is not a file.", code="model.not_a_file", remedy=_CHECK_PATH)
        with path.open("rb") as file:
            return _read(path, file)
    except OSError as error:
        raise ModelError(
            f"The file {path.name!r} cannot be read: {error.strerror or error}.",
            remedy="Check the permissions of the file and the disk it is on.",
        ) from error


def write_stored(source: StoredModel, tensors: Mapping[str, Tensor], target: Path) -> None:
    """Write the file of `source` to `target` with `tensors` in place of its own.

    Keys, shapes and dtypes are those of `source.tensors`. The file appears whole or not at all. Raises `ModelError` if
    the original changed meanwhile, `OutputError` if tensors that share bytes were given different values, `OSError` as
    the disk raises it.
    """
    form = next(form for form in FORMATS if form.name == source.format)
    _check_alike(source.tensors, tensors)
    with source.path.open("rb") as original, _appearing(target) as file:
        if _digest(original) != source.digest:
            raise _changed()
        places = form.locate(original, source.size)
        changed = [
            (place, tensors[key])
            for key, place in places.items()
            if not _same_bits(_tensor(original, place), tensors[key])
        ]
        for piece in form.rewrite(original, source.size, changed):
            file.write(piece)
        for key, place in places.items():
            if not _same_bits(_tensor(file, place), tensors[key]):
                raise OutputError(
                    f"The tensor {key!r} shares its bytes in the file with another one that was changed otherwise.",
                    code="output.shared_tensors",
                    remedy="Save the model with every tensor cloned, so that each has bytes of its own.",
                )


def _read(path: Path, file: BinaryIO) -> StoredModel:
    size = file.seek(0, os.SEEK_END)
    if not size:
        raise ModelError(f"The file {path.name!r} is empty.", code="model.empty", remedy=DAMAGED)
    file.seek(0)
    head = file.read(_HEAD)
    form = next((form for form in FORMATS if form.recognises(head)), None)
    if form is None:
        raise _unsupported(head)
    places = form.locate(file, size)
    _check_places(places, size)
    return StoredModel(
        path=path,
        digest=_digest(file),
        size=size,
        format=form.name,
        tensors={key: _tensor(file, place) for key, place in places.items()},
        prefix=_prefix(places),
    )


def _unsupported(head: bytes) -> ModelError:
    if head.startswith(_LEGACY_PICKLE) or _LEGACY_TAR.match(head):
        return ModelError(
            "The checkpoint is in the container that torch.save wrote before PyTorch 1.6.",
            code="model.legacy_container",
            remedy=SAVE_AGAIN,
        )
    what = next((what for magic, what in _OTHERS if magic.match(head)), "of no format that is known here")
    return ModelError(f"The file is {what}.", code="model.unsupported_format", remedy=_SUBMIT_TENSORS)


def _check_places(places: Mapping[str, Place], size: int) -> None:
    if not places:
        raise ModelError("The file holds no tensors.", code="model.not_a_state_dict", remedy=_SUBMIT_TENSORS)
    if len(places) > input_limits().model.tensors:
        raise ModelError(
            f"The file holds {len(places)} tensors; {input_limits().model.tensors} are allowed.",
            code="model.too_many_tensors",
            remedy="Submit the weights of one classifier, without what training left beside them.",
        )
    for key in places:
        if len(key) > input_limits().model.name_length or not _KEY.fullmatch(key):
            raise ModelError(
                f"The tensor name {key[:100]!r} is not made of letters, digits and . _ - / : only, or is too long.",
                code="model.name_invalid",
                remedy="Rename the tensor and save the state dict again.",
            )
    # Tied weights lie in the file once and are read twice; a thousand views of one storage are an attack.
    shared = input_limits().model.shared
    if sum(place.nbytes for place in places.values()) > shared * size:
        raise ModelError(
            f"The tensors are more than {shared} times as large as the file: too many share their bytes.",
            code="model.tensor_out_of_bounds",
            remedy="Save the state dict again with every tensor cloned.",
        )


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _prefix(keys: Mapping[str, Place]) -> str:
    prefix = ""
    while wrapper := next((w for w in WRAPPERS if all(k.startswith(prefix + w) for k in keys)), ""):
        prefix += wrapper
    return prefix


def _check_alike(original: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    def form(these: Mapping[str, Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
        return {key: (tensor.dtype, tensor.shape) for key, tensor in these.items()}

    if form(original) != form(tensors):
        raise ValueError("the tensors are not those of the file in name, dtype and shape")


@contextmanager
def _appearing(target: Path) -> Iterator[BinaryIO]:
    """A file beside `target` that takes its name once all is written, or leaves nothing behind."""
    beside = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with beside.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Unlike equality, this holds for equal NaNs, and not for 0.0 and -0.0."""
    return torch.equal(*(tensor.detach().cpu().reshape(-1).view(torch.uint8) for tensor in (one, other)))


def _tensor(file: BinaryIO, place: Place) -> Tensor:
    buffer = _bytes(file, place)
    if place.dtype == torch.bool:
        # A byte that is neither 0 nor 1 is no bool to the compiler of any kernel.
        return _view(buffer, replace(place, dtype=torch.uint8)).ne(0).contiguous()
    return _view(buffer, place).contiguous()


def _bytes(file: BinaryIO, place: Place) -> bytearray:
    file.seek(place.start)
    buffer = bytearray(file.read(place.nbytes))
    if place.start + len(buffer) < place.end:
        raise _changed()
    return buffer


def _view(buffer: bytearray, place: Place) -> Tensor:
    """The tensor of `place` on the memory of `buffer`."""
    if not buffer:
        return torch.empty(place.shape, dtype=place.dtype)
    flat: Tensor = torch.frombuffer(buffer, dtype=place.dtype)
    return flat.as_strided(place.shape, place.stride)


def _changed() -> ModelError:
    return ModelError(
        "The model file changed while it was being worked on.",
        code="model.changed",
        remedy="Run again, and leave the file alone until the run ends.",
    )
