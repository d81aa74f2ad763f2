"""Safetensors files: byte for byte back, one changed tensor as the only change, and headers that lie."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file
from torch import Tensor

from app.errors import ModelError
from worker.formats.stored import read_stored, write_stored

ZOO = Path(__file__).parents[4] / "shared" / "zoo"
DTYPES = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


def raw(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def code_of(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_stored(path)
    assert caught.value.remedy
    return caught.value.code


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for key, tensor in one.items():
        assert tensor.dtype == other[key].dtype
        torch.testing.assert_close(tensor, other[key], rtol=0, atol=0, equal_nan=True)


@st.composite
def named_tensors(draw: st.DrawFn) -> dict[str, Tensor]:
    names = draw(st.lists(st.text("ab.0_-", min_size=1, max_size=9), min_size=1, max_size=6, unique=True))
    shapes = st.lists(st.integers(0, 3), max_size=4)
    return {
        name: torch.randint(0, 100, draw(shapes)).to(draw(st.sampled_from(DTYPES))) for name in sorted(names)
    }


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
    tensors=named_tensors(),
    metadata=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
def test_any_file_comes_back_byte_for_byte(
    tensors: dict[str, Tensor], metadata: dict[str, str] | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("round")
    source, target = folder / "in.bin", folder / "out.bin"
    source.write_bytes(save(tensors, metadata))
    stored = read_stored(source)
    assert_same(dict(sorted(stored.tensors.items())), tensors)
    write_stored(stored, stored.tensors, target)
    assert target.read_bytes() == source.read_bytes()
    assert sorted(folder.iterdir()) == [source, target]


def test_a_changed_tensor_is_the_only_change(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(3, 4), "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.tensor(-0.0)}
    save_file(tensors, tmp_path / "in", {"format": "pt"})
    stored = read_stored(tmp_path / "in")
    changed = {key: tensor.clone() for key, tensor in stored.tensors.items()}
    changed["b"][1] = 3
    changed["c"].zero_()
    write_stored(stored, changed, tmp_path / "out")

    assert_same(load_file(tmp_path / "out"), changed)
    assert not torch.signbit(load_file(tmp_path / "out")["c"])
    assert_same(stored.tensors, tensors)
    before, after = (tmp_path / "in").read_bytes(), (tmp_path / "out").read_bytes()
    assert len(before) == len(after)
    assert 0 < sum(x != y for x, y in zip(before, after, strict=True)) <= 3


def test_header_order_and_offset_order_may_differ(tmp_path: Path) -> None:
    header = {"z": entry([1], 4, 8), "__metadata__": {"k": "v"}, "a": entry([1], 0, 4)}
    content = raw(header, struct.pack("<2f", 1, 2))
    (tmp_path / "in").write_bytes(content)
    stored = read_stored(tmp_path / "in")
    assert [(key, value.item()) for key, value in stored.tensors.items()] == [("z", 2.0), ("a", 1.0)]
    write_stored(stored, stored.tensors, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


def test_bytes_that_are_no_bool_are_read_as_true_and_left_alone(tmp_path: Path) -> None:
    content = raw({"a": entry([3], 0, 3, "BOOL")}, b"\x00\x01\x07")
    (tmp_path / "in").write_bytes(content)
    stored = read_stored(tmp_path / "in")
    assert stored.tensors["a"].tolist() == [False, True, True]
    write_stored(stored, stored.tensors, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


def test_a_name_on_the_file_decides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(save({"module._orig_mod.a": torch.ones(1), "module._orig_mod.b": torch.ones(1)}))
    stored = read_stored(path)
    assert (stored.format, stored.prefix) == ("safetensors", "module._orig_mod.")
    assert stored.size == path.stat().st_size
    assert stored.digest.startswith("sha256:")


@pytest.mark.parametrize(
    "tensors", [{}, {"b": torch.ones(2)}, {"a": torch.ones(3)}, {"a": torch.ones(2).int()}]
)
def test_other_tensors_are_a_mistake_of_the_caller(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "in")
    with pytest.raises(ValueError, match="name, dtype and shape"):
        write_stored(read_stored(tmp_path / "in"), tensors, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "in")
    (tmp_path / "out").write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    stored = read_stored(tmp_path / "in")
    with pytest.raises(OSError, match="No space"):
        write_stored(stored, stored.tensors, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_original_that_changed_meanwhile_is_not_written(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "in")
    stored = read_stored(tmp_path / "in")
    save_file({"a": torch.zeros(2)}, tmp_path / "in")
    with pytest.raises(ModelError) as caught:
        write_stored(stored, stored.tensors, tmp_path / "out")
    assert caught.value.code == "model.changed"
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not ZOO.is_dir(), reason="the zoo is not here")
def test_real_models_come_back_byte_for_byte(tmp_path: Path) -> None:
    for path in sorted(ZOO.glob("*/model.safetensors")):
        stored = read_stored(path)
        assert_same(dict(sorted(stored.tensors.items())), dict(sorted(load_file(path).items())))
        write_stored(stored, stored.tensors, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == path.read_bytes()


GOOD = raw({"a": entry([2], 0, 8), "b": entry([], 8, 12)}, bytes(12))
BAD_HEADERS = {
    "header of 2^54 bytes": raw(b"{}", length=1 << 54),
    "header beyond 16 MiB": raw(b"{}" + b" " * (17 << 20)),
    "not JSON": raw(b"{]"),
    "not UTF-8": raw(b'{"\xff": 1}'),
    "nested 100 000 deep": raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "spaces in front": raw(b'  {"a":' + json.dumps(entry([1], 0, 4)).encode() + b"}", bytes(4)),
    "one name twice": raw(b'{"a":%b,"a":%b}' % ((json.dumps(entry([1], 0, 4)).encode(),) * 2), bytes(4)),
    "metadata of numbers": raw({"__metadata__": {"a": 1}, "a": entry([1], 0, 4)}, bytes(4)),
    "metadata no dict": raw({"__metadata__": [], "a": entry([1], 0, 4)}, bytes(4)),
    "entry no dict": raw({"a": 1}),
    "entry with more": raw({"a": entry([1], 0, 4) | {"x": 1}}, bytes(4)),
    "entry with less": raw({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)),
    "overlap": raw({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
    "hole": raw({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
    "hole in front": raw({"a": entry([1], 4, 8)}, bytes(8)),
    "trailing bytes": GOOD + b"x",
}
BAD_TENSORS = {
    "shape and bytes disagree": entry([2], 0, 4),
    "reversed": entry([1], 4, 0),
    "negative offset": entry([1], -4, 0),
    "negative dimension": entry([-1], 0, 4),
    "fraction": entry([1], 0, 4) | {"shape": [1.0]},
    "bool": entry([1], 0, 4) | {"shape": [True]},
    "nothing times very much": entry([0, 1 << 60], 0, 0),
    "nothing times more": entry([0, (1 << 63) + 5], 0, 0),
    "product overflows": entry([1 << 32, 1 << 32], 0, 4),
    "5 000 dimensions": entry([1] * 5_000, 0, 4),
}


def test_too_many_tensors_are_refused(tmp_path: Path) -> None:
    content = raw({f"a{i}": entry([0], 0, 0) for i in range(20_001)})
    assert code_of(tmp_path / "in", content) == "model.too_many_tensors"


@pytest.mark.parametrize("content", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_header_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    assert code_of(tmp_path / "in", content) == "model.malformed_container"


@pytest.mark.parametrize("bad", BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_a_tensor_that_cannot_exist_is_refused(tmp_path: Path, bad: dict[str, object]) -> None:
    assert code_of(tmp_path / "in", raw({"a": bad}, bytes(4))) == "model.tensor_out_of_bounds"


@pytest.mark.parametrize("dtype", ["F4", "Q99", "F8_E4M3", "C64", "U16", "f32", ""])
def test_other_dtypes_are_refused(tmp_path: Path, dtype: str) -> None:
    content = raw({"a": entry([1], 0, 4, dtype)}, bytes(4))
    assert code_of(tmp_path / "in", content) == "model.unsupported_dtype"


@pytest.mark.parametrize("name", ["", "<script>", "a\r\nSet-Cookie: x", "a" * 257, "ä", "\ud800"])
def test_names_that_could_hurt_a_reader_are_refused(tmp_path: Path, name: str) -> None:
    assert code_of(tmp_path / "in", raw({name: entry([1], 0, 4)}, bytes(4))) == "model.name_invalid"


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    assert code_of(tmp_path / "in", raw({})) == "model.not_a_state_dict"


@pytest.mark.parametrize("kept", [9, 20, 60, len(GOOD) - 1])
def test_a_file_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    assert code_of(tmp_path / "in", GOOD[:kept]) == "model.truncated"
