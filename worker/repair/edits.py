"""A repair as edits of stored tensors, and their replay.

Pruned filters are listed one by one, for a person to read. A tensor that was relearned has too many new numbers for a
list; it is carried as the bits in which it differs. Knows tensors by the keys of a file; knows nothing of networks.
"""

import base64
import binascii
import zlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from app.contract.changes import Edit, Edits, Rewrite
from app.errors import ChangesError
from worker.rnp.masks import Filter
from worker.rnp.prune import PRUNED_VALUE

OTHER_MODEL = "Apply the changes to the model they were made for."


def edits_of(
    filters: Iterable[Filter],
    relearned: Mapping[str, Tensor],
    stored: Mapping[str, Tensor],
    stored_key: Callable[[str], str],
) -> Edits:
    """One edit for each pruned filter, one rewrite for each tensor that differs beyond that, in the order of the file.

    `relearned`: parameter name -> its new values, exactly representable in the dtype of the file; pruned rows pruned.
    """
    order = {key: place for place, key in enumerate(stored)}
    dead = tuple(
        sorted((_edit(f, stored, stored_key) for f in filters), key=lambda e: (order[e.tensor], e.index))
    )
    pruned = replay(Edits(edits=dead), stored)
    new = {stored_key(name): values for name, values in relearned.items()}
    rewrites = (_rewrite(key, pruned[key], new[key]) for key in stored if key in new)
    return Edits(edits=dead, rewrites=tuple(rewrite for rewrite in rewrites if rewrite))


def replay(edits: Edits, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The stored tensors with the edits made, same keys, order and dtypes; the input stays as it is.

    Raises `ChangesError` when an edit names a tensor or row that is not there, or finds another number than it expects.
    """
    touched = {edit.tensor for edit in edits.edits} | {rewrite.tensor for rewrite in edits.rewrites}
    unknown = touched - stored.keys()
    if unknown:
        raise ChangesError(f"The model has no tensor {min(unknown)!r}.", remedy=OTHER_MODEL)
    edited = {key: tensor.clone() if key in touched else tensor for key, tensor in stored.items()}
    for edit in edits.edits:
        tensor = edited[edit.tensor]
        if tensor.dim() == 0 or edit.index >= len(tensor):
            raise ChangesError(f"Tensor {edit.tensor!r} has no row {edit.index}.", remedy=OTHER_MODEL)
        if edit.old is not None and (tensor.dim() != 1 or tensor[edit.index].item() != edit.old):
            raise ChangesError(
                f"Tensor {edit.tensor!r} does not hold {edit.old!r} at {edit.index}, so this is another model.",
                remedy=OTHER_MODEL,
            )
        tensor[edit.index] = edit.value
    for rewrite in edits.rewrites:
        edited[rewrite.tensor] = _rewritten(rewrite, edited[rewrite.tensor])
    return edited


def _edit(dead: Filter, stored: Mapping[str, Tensor], stored_key: Callable[[str], str]) -> Edit:
    key = stored_key(dead.parameter)
    row = stored[key][dead.index]
    old = row.item() if row.dim() == 0 else None
    return Edit(tensor=key, index=dead.index, mask=dead.mask, old=old, value=PRUNED_VALUE)


def _rewrite(key: str, old: Tensor, values: Tensor) -> Rewrite | None:
    difference = _bits(old) ^ _bits(values.to("cpu", old.dtype))
    changed = int(difference.reshape(-1, old.element_size()).any(1).sum())
    if not changed:
        return None
    packed = base64.b64encode(zlib.compress(difference.tobytes()))
    return Rewrite(tensor=key, changed=changed, difference=packed.decode("ascii"))


def _rewritten(rewrite: Rewrite, old: Tensor) -> Tensor:
    bits = _bits(old)
    try:
        unpacking = zlib.decompressobj()
        difference = unpacking.decompress(base64.b64decode(rewrite.difference, validate=True), len(bits) + 1)
    except (binascii.Error, zlib.error) as error:
        raise ChangesError(f"What is new in tensor {rewrite.tensor!r} cannot be read.") from error
    if len(difference) != len(bits):
        raise ChangesError(f"Tensor {rewrite.tensor!r} has another size.", remedy=OTHER_MODEL)
    new = torch.from_numpy(bits ^ np.frombuffer(difference, np.uint8))
    return new.view(old.dtype).view(old.shape)


def _bits(tensor: Tensor) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    """Its bytes in the order of the file."""
    flat: np.ndarray[tuple[int], np.dtype[np.uint8]] = tensor.contiguous().flatten().view(torch.uint8).numpy()
    return flat
