"""The pickle grammar: what torch.save writes is described, everything else is refused before anything runs."""

import io
import pickle
import zipfile
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

import pytest
import torch
from torch import nn

from app.contract.limits import input_limits
from app.errors import ModelError
from worker.formats.pickles import read_pickle
from worker.formats.references import StorageRef, TensorRef

P = b"\x80\x02"


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return archive.read("archive/data.pkl")


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def code_of(data: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        read_pickle(data)
    assert caught.value.remedy
    return caught.value.code


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def test_a_checkpoint_is_described() -> None:
    weight = torch.ones(2, 3)
    value = {
        "state_dict": OrderedDict(a=weight, b=nn.Parameter(weight), c=weight.t()[1:]),
        "epoch": 3,
        "best": -0.5,
        "big": 1 << 70,
        "note": "ü",
        "betas": (0.9, 0.999),
        "flags": [True, False, None],
        "state": {0: {"step": 10}},
        "milestones": Counter({5: 1, 10: 1}),
    }
    root, tensors = read_pickle(saved(value))
    storage = StorageRef("0", torch.float32, 6)
    expected = value | {
        "state_dict": {
            "a": TensorRef(storage, 0, (2, 3), (3, 1)),
            "b": TensorRef(storage, 0, (2, 3), (3, 1)),
            "c": TensorRef(storage, 1, (2, 2), (1, 3)),
        }
    }
    assert root == expected
    assert isinstance(root, dict)
    assert type(root["milestones"]) is dict
    assert sorted(map(repr, tensors)) == sorted(map(repr, expected["state_dict"].values()))


def test_a_counter_is_a_copy_as_it_is_for_torch() -> None:
    data = P + b"(ccollections\nCounter\n}q\x00\x85Rh\x00" + text("a") + b"K\x01st."
    assert read_pickle(data)[0] == ({}, {"a": 1})


@pytest.mark.parametrize(
    "name",
    ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"],
)
def test_every_plain_dtype_is_known(name: str) -> None:
    dtype = getattr(torch, name)
    _, (tensor,) = read_pickle(saved({"a": torch.zeros(2, dtype=dtype)}))
    assert tensor.storage.dtype == dtype


UNSAFE = {
    "os.system": saved({"a": Calls(__import__("os").system, "true")}),
    "eval": saved(Calls(eval, "1")),
    "getattr": saved(Calls(getattr, "a", "upper")),
    "a module": saved(nn.Linear(2, 2)),
    "deque": saved(deque("ab")),
    "Counter of nothing": P + b"ccollections\nCounter\n)R.",
    "Counter of a string": P + b"ccollections\nCounter\n" + text("ab") + b"\x85R.",
    "Counter of two dicts": P + b"ccollections\nCounter\n}}\x86R.",
    "Counter of an OrderedDict": P + b"ccollections\nCounter\nccollections\nOrderedDict\n)R\x85R.",
    "Counter with attributes": P + b"ccollections\nCounter\n}\x85R}" + text("_metadata") + b"K\x01sb.",
    "Counter as a value": P + b"}" + text("a") + b"ccollections\nCounter\ns.",
    "bytes": saved({"a": b"b"}),
    "protocol 4": pickle.dumps({"a": 1}, protocol=4),
    "protocol 0": pickle.dumps({"a": [1]}, protocol=0),
    "bytearray of 2^34": P + b"cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x04\x85R.",
    "storage of 2^34": P + b"ctorch.storage\nUntypedStorage\n\x8a\x05\0\0\0\0\x04\x85R.",
    "calling a dtype": P + b"ctorch\nFloatStorage\n)R.",
    "a function as a value": P + b"}" + text("a") + b"ccollections\nOrderedDict\ns.",
    "payload before garbage": P + b"cos\nsystem\nX\x04\0\0\0true\x85R\xff\xff",
    "INST": P + b"(X\x04\0\0\0trueios\nsystem\n.",
    "EXT1": P + b"\x82\x01)R.",
    "OrderedDict of pairs": P + b"ccollections\nOrderedDict\n]\x85R.",
    "an attribute named items": P + b"ccollections\nOrderedDict\n)R}" + text("items") + b"K\x01sb.",
    "attributes of a dict": P + b"}}" + text("_metadata") + b"K\x01sb.",
    "a tuple as a key": P + b"}K\x01K\x02\x86K\x01s.",
    "keys that collide": P + b"}\x8a\x08" + ((1 << 61) - 1).to_bytes(8, "little") + b"K\x01s.",
    "200 000 tuples deep, as a key": P + b"})" + b"\x85" * 200_000 + b"K\x01s.",
    "a bare storage": saved({"a": torch.ones(2).untyped_storage()}),
}


@pytest.mark.parametrize("data", UNSAFE.values(), ids=UNSAFE)
def test_more_than_a_state_dict_is_refused(data: bytes) -> None:
    assert code_of(data) == "model.unsafe_pickle"


def test_the_refusal_names_the_global() -> None:
    with pytest.raises(ModelError) as caught:
        read_pickle(UNSAFE["a module"])
    assert "torch.nn.modules.linear.Linear" in caught.value.detail


def tensor(shape: bytes, hooks: bytes, metadata: bytes = b"") -> bytes:
    """A call of `_rebuild_tensor_v2` on one float, with this shape and stride."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\x00"
        + shape * 2
        + b"\x89"
        + hooks
        + metadata
        + b"tR"
    )


NO_HOOKS = b"ccollections\nOrderedDict\n)R"


def test_a_tensor_by_hand_is_the_tensor_by_torch() -> None:
    root, _ = read_pickle(P + tensor(b"K\x01\x85", NO_HOOKS) + b".")
    assert root == TensorRef(StorageRef("0", torch.float32, 1), 0, (1,), (1,))


@pytest.mark.parametrize(
    ("hooks", "metadata"),
    [(NO_HOOKS + text("a") + b"K\x01s", b""), (b"}", b""), (NO_HOOKS, b"}" + text("neg") + b"\x88s")],
    ids=["hooks", "no hooks at all", "metadata"],
)
def test_tensors_with_more_than_numbers_are_refused(hooks: bytes, metadata: bytes) -> None:
    assert code_of(P + tensor(b"K\x01\x85", hooks, metadata) + b".") == "model.unsafe_pickle"


def laughs(width: int, levels: int) -> bytes:
    """Lists of `width` references to one list of `width` references to one list of …."""
    data = P + b"(]q\x00"
    for level in range(1, levels):
        data += b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1])) * width + b"e"
    return data + b"t."


def recounted(times: int) -> bytes:
    """One dict of a thousand numbers, counted again and again."""
    items = b"".join(text(str(n)) + b"K\x01" for n in range(1000))
    again = b"ccollections\nCounter\nh\x00\x85R"
    return P + b"(}q\x00(" + items + b"u" + again * times + b"t."


BOMBS = {
    "one dict counted over and over": recounted(100_000),
    "200 000 tuples deep": P + b"}" + text("a") + b")" + b"\x85" * 200_000 + b"s.",
    "200 000 lists deep": P + b"]" * 200_000 + b"a" * 199_999 + b".",
    "metadata deep": P + NO_HOOKS + b"}" + text("_metadata") + b")" + b"\x85" * 99 + b"sb.",
    "a list in itself": P + b"]q\x00h\x00a.",
    "a list in itself 60 000 times": P + b"]q\x00(" + b"h\x00" * 60_000 + b"e.",
    "shared lists": laughs(10, 20),
    "too many instructions": P + b"]" + b"Na" * (input_limits().model.pickle_instructions // 2) + b".",
    "too many bytes": P + text("a" * (17 << 20)) + b".",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused(data: bytes) -> None:
    assert code_of(data) == "model.pickle_limits"


DAMAGED = {
    "nothing": b"",
    "no end": P + b"}",
    "cut in a string": P + b"X\xff\0\0\0a",
    "unknown instruction": P + b"\xff.",
    "bytes behind": P + b"}.}",
    "empty stack at the end": P + b".",
    "two values at the end": P + b"}}.",
    "a mark at the end": P + b"(}.",
    "taking from nothing": P + b"\x85.",
    "taking below a mark": P + b"K\x01(\x85.",
    "no mark": P + b"}t.",
    "memo of nothing": P + b"q\x00.",
    "memo miss": P + b"h\x00.",
    "appending to a dict": P + b"}K\x01a.",
    "setting in a list": P + b"]K\x01K\x02s.",
    "half an item": P + b"}(K\x01u.",
    "persistent number": P + b"K\x01Q.",
    "storage of minus one": P
    + b"("
    + text("storage")
    + b"ctorch\nFloatStorage\n"
    + text("0") * 2
    + b"J\xff\xff\xff\xfftQ.",
    "a shape of strings": P + tensor(text("a") + b"\x85", NO_HOOKS) + b".",
    "global cut short": P + b"ctorch",
    "global not ASCII": P + b"c\xff\n\xff\n.",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_pickle_is_refused(data: bytes) -> None:
    assert code_of(data) == "model.malformed_pickle"


OTHER_TENSORS = {
    "sparse": torch.eye(2).to_sparse(),
    "complex": torch.ones(2, dtype=torch.complex64),
    "float8": torch.ones(2).to(torch.float8_e4m3fn),
    "uint16": torch.ones(2).to(torch.uint16),
    "meta": torch.ones(2, device="meta"),
}


@pytest.mark.parametrize("value", OTHER_TENSORS.values(), ids=OTHER_TENSORS)
def test_other_tensors_are_refused_without_alarm(value: torch.Tensor) -> None:
    assert code_of(saved({"a": value})) == "model.unsupported_dtype"


def test_every_cut_and_every_flip_of_a_byte_is_read_or_refused() -> None:
    data = saved({"state_dict": nn.Linear(1, 1).state_dict(), "epoch": 1})
    damaged = [data[:cut] for cut in range(len(data))]
    damaged += [
        data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :] for at in range(len(data)) for flip in (1, 32)
    ]
    refused = 0
    for one in damaged:
        try:
            read_pickle(one)
        except ModelError:
            refused += 1
    assert len(data) < refused < len(damaged)
