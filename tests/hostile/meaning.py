"""Rows 47 to 57: files that are well formed and mean harm, options beyond measure, and ONNX."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from tests.hostile.interface import ACCEPTED, Kind, row

EXAMPLE = Path(__file__).parents[2] / "examples" / "clean-resnet18.safetensors"
NOT_FINITE, OTHER = "model.not_finite", "model.unsupported_format"


def example(**changes: float) -> bytes:
    """The example with all numbers of some tensors replaced, by the end of their names."""
    state = {name: t.float() if t.is_floating_point() else t for name, t in load_file(EXAMPLE).items()}
    for name, tensor in state.items():
        for end, value in changes.items():
            if name.endswith(end):
                tensor.fill_(value)
    return save(state)


@row("47", Kind.NETWORK, "model.unknown_architecture")
def no_architecture() -> list[bytes]:
    """Weights that fit no architecture: a key too few, too many, of another shape, ten thousand scalars."""
    state = load_file(EXAMPLE)
    name, weight = next((key, tensor) for key, tensor in state.items() if tensor.dim() == 4)
    return [
        save({key: tensor for key, tensor in state.items() if key != name}),
        save({**state, "more": torch.ones(1)}),
        save({**state, name: weight[:, :2].contiguous()}),
        save({str(n): torch.ones(1) for n in range(10_000)}),
    ]


@row("48a", Kind.NETWORK, NOT_FINITE)
def not_finite() -> list[bytes]:
    """NaN or infinity among the weights; weights of 1e38, whose sums are infinite."""
    return [example(weight=float("nan")), example(bias=float("inf")), example(weight=1e38)]


@row("48b", Kind.NETWORK, NOT_FINITE)
def negative_variances() -> bytes:
    """A BatchNorm whose variances are negative."""
    return example(running_var=-1.0)


@row("48c", Kind.NETWORK, ACCEPTED)
def nothing_but_zeros() -> bytes:
    """All weights zero: a model that says the same of everything; the pipeline refuses it as no better than chance."""
    return example(weight=0.0, bias=0.0)


@row("49", Kind.OPTIONS, "options.invalid")
def options_beyond_measure() -> list[bytes]:
    """A million epochs, images of a million pixels, numbers of 2^70, negative ones, NaN and infinity."""
    wrong: tuple[dict[str, object], ...] = (
        {"unlearn": {"max_epochs": 10**9}}, {"input_size": 10**6}, {"seed": 1 << 70}, {"seed": -1},
        {"prune": {"accuracy_budget": float("nan")}}, {"evidence": {"threshold": float("inf")}},
        {"split": {"fit": 0}}, {"evidence": {"seeds": 10**6}}, {"unlearn": {"batch_size": 0}},
    )  # fmt: skip
    return [json.dumps(options).encode() for options in wrong]


@row("10", Kind.OPTIONS, "options.invalid")
def options_that_are_none() -> list[bytes]:
    """Fields that nobody knows, values of another type or choice, names of 300 letters, lists for objects."""
    wrong: tuple[object, ...] = (
        {"__class__": "x"}, {"fidelity": "fast"}, {"architecture": "a" * 300}, {"unlearn": []}, {"unlearn": None},
        {"fidelity": "paper", "unlearn": [1]}, {"fidelity": "paper", "prune": "x"}, {"prune": {"x": 1}}, {"seed": {}},
    )  # fmt: skip
    return [json.dumps(options).encode() for options in wrong]


def onnx(body: bytes) -> bytes:
    """The beginning of an ONNX file: version 9, made by pytorch."""
    return b"\x08\x09\x12\x07pytorch" + body


def field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + len(data).to_bytes(1, "little") + data


@row("52", Kind.MODEL, OTHER)
def external_data() -> bytes:
    """ONNX whose weights lie in ../../etc/passwd."""
    location = field(13, field(1, b"location") + field(2, b"../../etc/passwd"))
    return onnx(field(7, field(5, location)))


@row("53", Kind.MODEL, OTHER)
def external_keys() -> bytes:
    """ONNX whose external data is named __class__."""
    return onnx(field(7, field(5, field(13, field(1, b"__class__") + field(2, b"1" * 18)))))


@row("54", Kind.MODEL, OTHER)
def custom_operators() -> bytes:
    """ONNX with an operator of another domain."""
    return onnx(field(7, field(1, field(4, b"PyOp") + field(7, b"ai.evil"))))


@row("55", Kind.MODEL, OTHER)
def impossible_initializer() -> bytes:
    """ONNX with a tensor of 10^12 elements in four bytes."""
    return onnx(field(7, field(5, b"\x08\xc0\x84\x3d\x08\xc0\x84\x3d" + field(9, bytes(4)))))


@row("56", Kind.MODEL, OTHER)
def nested_graphs() -> bytes:
    """ONNX with graphs nested in graphs."""
    graph = b""
    for _ in range(20):
        graph = field(7, graph)
    return onnx(graph)


@row("57", Kind.MODEL, OTHER)
def broken_onnx() -> list[bytes]:
    """ONNX cut short, or with numbers that never end."""
    return [onnx(b"\xff" * 100), onnx(b"")[:9], onnx(b"\x3a\xff\xff\xff\x7f")]
