"""An accelerator that is not there: the CPU computes, and memory is apart as on a real one.

Tensors of it refuse to meet the CPU's, the CPU's generators and numpy, as CUDA's do. So a tensor in the wrong place is
found where no GPU is; of kernels, number formats and speed it says nothing. torch asks which devices there are once in
a process, before its first gradient: `elsewhere` has to be called before that.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.library import Library
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "elsewhere"
aten = torch.ops.aten
ACROSS = {aten.copy_.default, aten._to_copy.default}
# CUDA takes the CPU's indices.
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
KEPT: list[Library] = []  # what a library registered goes with it


class Backend(_DummyBackendModule):
    """What torch asks of one."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


class Elsewhere(Tensor):
    """A tensor of the device; `held` is what it holds, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls: type["Elsewhere"], held: Tensor) -> "Elsewhere":
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device=f"{NAME}:0"
        )
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Elsewhere({self.held!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(op, args, kwargs or {})


def compute(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operation where its arguments are. Raises `RuntimeError` where they are not together."""
    leaves = tree_leaves((args, kwargs))
    ours = [leaf for leaf in leaves if isinstance(leaf, Elsewhere)]
    wanted = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
    stays = wanted == NAME or (wanted is None and bool(ours))
    if op is aten.copy_.default:
        stays = isinstance(args[0], Elsewhere)
    if ours and op not in ACROSS:
        _together(op, args[:1] if op in INDEXING else leaves)
    if stays and any(isinstance(leaf, torch.Generator) and leaf.device.type == "cpu" for leaf in leaves):
        raise RuntimeError(f"{op}: a generator of the CPU draws for {NAME}")
    inner_args, inner = tree_map(
        lambda leaf: leaf.held if isinstance(leaf, Elsewhere) else leaf, (args, kwargs)
    )
    if wanted:
        inner = {name: value for name, value in inner.items() if name != "pin_memory"} | {"device": "cpu"}
    back = op(*inner_args, **inner)
    if not stays or op is aten._local_scalar_dense.default:
        return back
    given = {id(one.held): one for one in ours}  # what works in place returns what it was given
    return tree_map(lambda leaf: _taken(leaf, given), back)


def _together(op: Any, leaves: Any) -> None:
    strangers = [
        tuple(leaf.shape)
        for leaf in leaves
        if isinstance(leaf, Tensor) and not isinstance(leaf, Elsewhere) and leaf.dim()
    ]
    if strangers:
        raise RuntimeError(f"{op}: tensors of {NAME} meet those of the CPU, {strangers}")


def _taken(leaf: Any, given: dict[int, Elsewhere]) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return given[id(leaf)] if id(leaf) in given else Elsewhere(leaf)


@cache
def elsewhere() -> torch.device:
    """The device; there from the first call on."""
    _setup_privateuseone_for_python_backend(NAME, Backend())
    made = Library("aten", "IMPL")
    for op in (
        aten.empty.memory_format,
        aten.empty_strided.default,
    ):  # of `torch.tensor`, which asks no class
        made.impl(op.name(), lambda *args, op=op, **kwargs: compute(op, args, kwargs), "PrivateUse1")
    made.impl("_copy_from", lambda source, to, *_: to.held.copy_(source), "PrivateUse1")
    KEPT.append(made)
    return torch.device(NAME, 0)
