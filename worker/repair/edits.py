"""A repair as edits of stored tensors, and their replay.

Knows tensors by the keys of a file; knows nothing of networks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor

from app.contract.changes import Edit
from app.errors import ChangesError
from worker.rnp.masks import Filter
from worker.rnp.prune import PRUNED_VALUE


def edits_of(
    filters: Iterable[Filter], stored: Mapping[str, Tensor], stored_key: Callable[[str], str]
) -> tuple[Edit, ...]:
    """One edit for each pruned filter, in the order of the file, under the keys of the file."""
    found = {}
    for dead in filters:
        key = stored_key(dead.parameter)
        row = stored[key][dead.index]
        old = row.item() if row.dim() == 0 else None
        found[key, dead.index] = Edit(
            tensor=key, index=dead.index, mask=dead.mask, old=old, value=PRUNED_VALUE
        )
    order = {key: place for place, key in enumerate(stored)}
    return tuple(sorted(found.values(), key=lambda edit: (order[edit.tensor], edit.index)))


def replay(edits: Sequence[Edit], stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The stored tensors with the edits made, same keys, order and dtypes; the input stays as it is.

    Raises `ChangesError` when an edit names a tensor or row that is not there, or finds another number than it expects.
    """
    touched = {edit.tensor for edit in edits}
    unknown = touched - stored.keys()
    if unknown:
        raise ChangesError(
            f"The model has no tensor {min(unknown)!r}.",
            remedy="Apply the changes to the model they were made for.",
        )
    edited = {key: tensor.clone() if key in touched else tensor for key, tensor in stored.items()}
    for edit in edits:
        tensor = edited[edit.tensor]
        if tensor.dim() == 0 or edit.index >= len(tensor):
            raise ChangesError(
                f"Tensor {edit.tensor!r} has no row {edit.index}.",
                remedy="Apply the changes to the model they were made for.",
            )
        if edit.old is not None and (tensor.dim() != 1 or tensor[edit.index].item() != edit.old):
            raise ChangesError(
                f"Tensor {edit.tensor!r} does not hold {edit.old!r} at {edit.index}, so this is another model.",
                remedy="Apply the changes to the model they were made for.",
            )
        tensor[edit.index] = edit.value
    return edited
