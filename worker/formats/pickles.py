"""The pickle inside a PyTorch checkpoint, read without running it.

A pickle is a program. This reads the small part of the language that `torch.save` uses for a state dict, on a stack
machine of our own that makes nothing but dicts, lists, tuples, numbers, strings and descriptions of tensors. Nothing
is imported, called or allocated on the pickle's word; every other opcode and every other global is refused by name.
"""

import io
import pickletools
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Collection
from enum import Enum

import torch

from app.contract.limits import input_limits
from app.errors import ModelError
from worker.formats.instructions import encoded
from worker.formats.references import STORAGES, StorageRef, TensorRef
from worker.formats.refusals import (
    SAVE_AS_USUAL,
    SAVE_EITHER,
    SAVE_MODULE,
    SAVE_NESTED,
    damaged,
    too_much,
    unsafe,
)

MAX_INT_KEY = 1 << 31  # larger ones can be made to collide in a hash table


def read_pickle(data: bytes) -> tuple[object, tuple[TensorRef, ...]]:
    """What the pickle describes, and all tensors in it.

    The first is a dict, list, tuple, str, int, float, bool, None or `TensorRef`, nested. Raises `ModelError` on
    anything that a state dict, and plain values beside it, do not need.
    """
    if len(data) > input_limits().model.pickle_bytes:
        raise too_much(f"it has {len(data)} bytes; {input_limits().model.pickle_bytes} are allowed")
    machine = _Machine()
    try:
        written = _run(machine, data)
    except ValueError as error:  # what genops says of a stream it cannot split
        raise damaged("it breaks off, or holds an unknown instruction") from error
    if written != data:  # bytes behind its end, or a number or a string in a form that no pickler writes
        raise damaged("it is not written as torch.save does")
    root = machine.result()
    return root, _tensors_in([root, machine.metadata])


def _run(machine: "_Machine", data: bytes) -> bytes:
    """Carry out every instruction; what a pickler would have written for them."""
    written = bytearray()
    # genops decodes the argument of a STRING before it is refused, and warns of escapes that Python does not know.
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
            if count == input_limits().model.pickle_instructions:
                raise too_much(f"it has more than {input_limits().model.pickle_instructions} instructions")
            if (count == 0) != (opcode.name == "PROTO"):
                raise unsafe("it does not begin with its protocol, or states it twice", SAVE_AS_USUAL)
            machine.step(opcode.name, argument)
            written += encoded(opcode, argument)
    return bytes(written)


class _Call(Enum):
    """The only things that a pickle may call."""

    ORDERED_DICT = "collections OrderedDict"
    COUNTER = "collections Counter"  # a scheduler keeps its milestones in one
    TENSOR = "torch._utils _rebuild_tensor_v2"
    PARAMETER = "torch._utils _rebuild_parameter"


_GLOBALS: dict[str, _Call | torch.dtype] = {
    **{call.value: call for call in _Call},
    **{f"torch {name}Storage": dtype for name, dtype in STORAGES.items()},
}
_OTHER_TENSORS = re.compile(
    r"torch\._utils _rebuild_(sparse|nested|q|meta)\w*|torch\._utils _rebuild_tensor_v3|torch (Q|Complex)\w+Storage"
)
_PLAIN = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"})
_NEW: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}


class _Machine:
    """The stack, the marks in it, the memo; `metadata` is what `Module.state_dict()` hangs on its dict."""

    def __init__(self) -> None:
        self.metadata: list[object] = []
        self._stack: list[object] = []
        self._marks: list[int] = []
        self._memo: dict[object, object] = {}
        self._counted = 0

    def step(self, name: str, argument: object) -> None:
        """Carry out one instruction."""
        if name in _PLAIN:
            self._stack.append(argument)
        elif name in _NEW:
            self._stack.append(_NEW[name]())
        elif name in _TOLD:
            _TOLD[name](self, argument)
        elif name in _TAKING:
            number, action = _TAKING[name]
            action(self, self._take(number))
        elif name != "STOP":
            raise unsafe(f"it uses the instruction {name}, which no state dict needs")

    def result(self) -> object:
        """The one value that is left."""
        if self._marks or len(self._stack) != 1:
            raise damaged("it does not end with exactly one value")
        return self._stack[0]

    def _take(self, number: int | None) -> list[object]:
        """The uppermost `number` values; None: all above the last mark, and the mark."""
        if number is None and not self._marks:
            raise damaged("a mark is missing")
        floor = self._marks[-1] if self._marks else 0
        start = self._marks.pop() if number is None else len(self._stack) - number
        if start < floor:
            raise damaged("it takes more values than it made")
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _top(self) -> object:
        (value,) = self._take(1)
        self._stack.append(value)
        return value

    def _protocol(self, argument: object) -> None:
        if argument != 2:
            why = f"it is of pickle protocol {argument}; torch.save writes 2 unless told otherwise"
            raise unsafe(why, SAVE_AS_USUAL)

    def _mark(self, _: object) -> None:
        self._marks.append(len(self._stack))

    def _put(self, argument: object) -> None:
        self._memo[argument] = self._top()

    def _get(self, argument: object) -> None:
        if argument not in self._memo:
            raise damaged("it recalls a value that it never stored")
        self._stack.append(self._memo[argument])

    def _global(self, argument: object) -> None:
        name = str(argument)
        if _OTHER_TENSORS.fullmatch(name):
            raise ModelError(
                "The checkpoint holds a tensor that is sparse, quantised, complex or of a rare dtype.",
                code="model.unsupported_dtype",
                remedy="Convert the tensors to dense float32 and save the state dict again.",
            )
        if name not in _GLOBALS:
            why = f"it asks for {name.replace(' ', '.')[:100]!r}, which no state dict needs"
            raise unsafe(why, self._way_out())
        self._stack.append(_GLOBALS[name])

    def _way_out(self) -> str:
        """How to save the weights alone, by what lies undermost: a whole model begins with its class."""
        if not self._stack and not self._marks:
            return SAVE_MODULE
        return SAVE_NESTED if self._stack and isinstance(self._stack[0], dict) else SAVE_EITHER

    def _tuple(self, values: list[object]) -> None:
        self._stack.append(tuple(values))

    def _extend(self, values: list[object]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise damaged("it appends to something that is no list")
        target.extend(values)

    def _update(self, values: list[object]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(values) % 2:
            raise damaged("it sets items of something that is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Hashing any other key could overflow the C stack of the next reader, or take for ever.
            if not (type(key) is str or (type(key) is int and abs(key) < MAX_INT_KEY)):
                raise unsafe("a dict in it has a key that is neither a string nor a small integer")
            if key in target:
                raise unsafe("a dict in it has one key twice")
            target[key] = value

    def _persistent(self, values: list[object]) -> None:
        match values:
            case [("storage", torch.dtype() as dtype, str(key), str(), int(numel))] if numel >= 0:
                self._stack.append(StorageRef(key, dtype, numel))
            case _:
                raise damaged("it refers to something outside itself that is no storage")

    def _reduce(self, values: list[object]) -> None:
        match values:
            case [_Call.ORDERED_DICT, ()]:
                self._stack.append(OrderedDict())
            case [_Call.COUNTER, (counted,)] if type(counted) is dict:
                self._stack.append(self._copy(counted))
            case [
                _Call.TENSOR,
                (StorageRef() as storage, int(offset), tuple(shape), tuple(stride), bool(), hooks, *extra),
            ]:
                _refuse_attributes(hooks, *extra)
                self._stack.append(TensorRef(storage, offset, _whole(shape), _whole(stride)))
            case [_Call.PARAMETER, (TensorRef() as tensor, bool(), hooks)]:
                _refuse_attributes(hooks)
                self._stack.append(tensor)
            case _:
                raise unsafe("it makes a call that no state dict needs")

    def _copy(self, counted: dict[object, object]) -> dict[object, object]:
        """A Counter copies its argument; one large dict, copied over and over, would fill the memory."""
        self._counted += len(counted)
        if self._counted > input_limits().model.pickle_parts:
            raise too_much(f"its counters have more than {input_limits().model.pickle_parts} parts")
        return dict(counted)

    def _build(self, values: list[object]) -> None:
        match self._top(), values:
            # Any other attribute could stand in front of a method of the dict, such as `items`.
            case OrderedDict(), [{"_metadata": metadata, **others}] if not others:
                self.metadata.append(metadata)
            case _:
                raise unsafe("it sets attributes that no state dict has")


_TOLD: dict[str, Callable[[_Machine, object], None]] = {
    "PROTO": _Machine._protocol,
    "MARK": _Machine._mark,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine._put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine._get),
    "GLOBAL": _Machine._global,
}
# What an instruction takes from the stack before it acts, as `_take` counts.
_TAKING: dict[str, tuple[int | None, Callable[[_Machine, list[object]], None]]] = {
    "TUPLE": (None, _Machine._tuple),
    **{f"TUPLE{n}": (n, _Machine._tuple) for n in (1, 2, 3)},
    "APPEND": (1, _Machine._extend),
    "APPENDS": (None, _Machine._extend),
    "SETITEM": (2, _Machine._update),
    "SETITEMS": (None, _Machine._update),
    "BINPERSID": (1, _Machine._persistent),
    "REDUCE": (2, _Machine._reduce),
    "BUILD": (1, _Machine._build),
}


def _refuse_attributes(hooks: object, *metadata: object) -> None:
    """Metadata could say that the numbers are still to be negated."""
    if not isinstance(hooks, OrderedDict) or hooks or any(metadata):
        raise unsafe("a tensor in it carries hooks or attributes")


def _whole(values: tuple[object, ...]) -> tuple[int, ...]:
    numbers = tuple(value for value in values if type(value) is int)
    if len(numbers) != len(values):
        raise damaged("a shape or stride in it is not made of whole numbers")
    return numbers


def _tensors_in(root: object) -> tuple[TensorRef, ...]:
    found, pending, nodes = list[TensorRef](), [(root, 0)], 0
    while pending:
        value, depth = pending.pop()
        if isinstance(value, TensorRef):
            found.append(value)
            continue
        children = _children(value)
        nodes += len(children)
        if depth > input_limits().model.pickle_nesting or nodes > input_limits().model.pickle_parts:
            raise too_much(
                f"it nests deeper than {input_limits().model.pickle_nesting}, or has too many parts"
            )
        pending.extend((child, depth + 1) for child in children)
    return tuple(found)


def _children(value: object) -> Collection[object]:
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple):
        return value
    if value is None or isinstance(value, bool | int | float | str):
        return ()
    raise unsafe("it leaves a storage or a function where a value belongs")
