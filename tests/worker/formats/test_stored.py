"""Files that are no model, or that would do harm: each is refused with its own code, and nothing else happens."""

import contextlib
import io
import os
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from app.errors import ModelError
from worker.formats.stored import read_stored


def saved(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def rewritten(content: bytes, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]) -> bytes:
    """The archive with its members changed, written by Python."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = change([(name, archive.read(name)) for name in archive.namelist()])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of two members of one name
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def replaced(content: bytes, **members: bytes) -> bytes:
    """The archive with the content of some members, by their last part, replaced."""
    return rewritten(
        content,
        lambda all_: [
            (name, members.get(name.split("/")[-1].replace(".", "_"), data)) for name, data in all_
        ],
    )


def code_of(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_stored(path)
    assert caught.value.remedy
    return caught.value.code


class Runs:
    """Pickles as a command that makes a file, for the reader that runs it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.system, (f"touch {self.canary}",)


def test_a_pickle_that_would_run_a_command_is_refused_and_not_run(tmp_path: Path) -> None:
    content = saved({"a": torch.ones(1), "b": Runs(tmp_path / "canary")})
    assert code_of(tmp_path / "in", content) == "model.unsafe_pickle"
    assert not (tmp_path / "canary").exists()


def deflated(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def tar(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def zipped(*names: str) -> bytes:
    return rewritten(saved({}), lambda _: [(name, b"x") for name in names])


WEIGHTS = saved({"a": torch.ones(4), "b": torch.ones(2, 3)})
BOMB = b"\x80\x02}X\x01\x00\x00\x00a)" + b"\x85" * 200_000 + b"s."
ENTRY = WEIGHTS.rindex(b"archive/data/0")  # in the directory, behind its 46 bytes of numbers
FLOATS = struct.pack("<4f", 1, 1, 1, 1)
NOT_THIS_FORMAT = {
    "ONNX": (b"\x08\x09\x12\x07pytorch", "model.unsupported_format"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "model.unsupported_format"),
    "Keras": (zipped("config.json", "model.weights.h5"), "model.unsupported_format"),
    "npz": (zipped("images.npy"), "model.unsupported_format"),
    "zip of nothing": (b"PK\x05\x06" + bytes(18), "model.unsupported_format"),
    "torch.export": (zipped("m/archive_format", "m/models/model.json"), "model.unsupported_format"),
    "torch.package": (zipped("m/data.pkl", "m/.data/extern_modules"), "model.unsupported_format"),
    "TorchScript": (torchscript(), "model.torchscript"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "model.unsupported_format"),
    "gzip": (b"\x1f\x8b\x08" + bytes(99), "model.unsupported_format"),
    "tar": (tar("model.pt"), "model.unsupported_format"),
    "legacy tar": (tar("sys_info"), "model.legacy_container"),
    "legacy pickle": (
        saved({"a": torch.ones(1)}, _use_new_zipfile_serialization=False),
        "model.legacy_container",
    ),
    "bare pickle": (b"\x80\x04\x95\x00", "model.unsupported_format"),
    "random bytes": (bytes(range(255, 0, -1)), "model.unsupported_format"),
    "text": (b"<html>Not Found</html>", "model.unsupported_format"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "model.unsupported_format"),
    "one byte": (b"P", "model.unsupported_format"),
    "nothing": (b"", "model.empty"),
}
HOSTILE = {
    "whole module": (saved(nn.Linear(2, 2)), "model.unsafe_pickle"),
    "module beside": (
        saved({"state_dict": {"a": torch.ones(1)}, "m": nn.Linear(2, 2)}),
        "model.unsafe_pickle",
    ),
    "tuples 200 000 deep": (replaced(WEIGHTS, data_pkl=BOMB), "model.pickle_limits"),
    "pickle cut short": (replaced(WEIGHTS, data_pkl=b"\x80\x02}"), "model.malformed_pickle"),
    "an integer": (saved(1), "model.not_a_state_dict"),
    "a list of tensors": (saved([torch.ones(1)]), "model.not_a_state_dict"),
    "an empty dict": (saved({}), "model.not_a_state_dict"),
    "numbers among tensors": (saved({"a": torch.ones(1), "epoch": 1}), "model.not_a_state_dict"),
    "keys of integers": (saved({1: torch.ones(1)}), "model.not_a_state_dict"),
    "an unknown nest": (saved({"weights": {"a": torch.ones(1)}}), "model.not_a_state_dict"),
    "two nests": (
        saved({"state_dict": {"a": torch.ones(1)}, "model": {"a": torch.ones(1)}}),
        "model.not_a_state_dict",
    ),
    "a name with a line break": (saved({"a\r\nb": torch.ones(1)}), "model.name_invalid"),
    "sparse": (saved({"a": torch.eye(2).to_sparse()}), "model.unsupported_dtype"),
    "huge view": (saved({"a": torch.ones(1).expand(1 << 40)}), "model.tensor_out_of_bounds"),
    "overlapping view": (
        saved({"a": torch.ones(4).as_strided((3, 2), (1, 1))}),
        "model.tensor_out_of_bounds",
    ),
    "nine dimensions": (saved({"a": torch.ones((1,) * 9)}), "model.tensor_out_of_bounds"),
    "nothing times very much": (saved({"a": torch.ones(0, 1 << 60)}), "model.tensor_out_of_bounds"),
    "many views of one storage": (
        saved(dict.fromkeys(map(str, range(300)), torch.ones(9000))),
        "model.tensor_out_of_bounds",
    ),
    "many thin views of one storage": (
        saved(dict(zip(map(str, range(300)), torch.ones(3000, 3).unbind(1) * 100, strict=True))),
        "model.tensor_out_of_bounds",
    ),
    "shape beyond the storage": (
        rewritten(WEIGHTS, lambda m: [(n, d.replace(b"K\x02K\x03\x86", b"K\x09K\x03\x86")) for n, d in m]),
        "model.tensor_out_of_bounds",
    ),
    "offset beyond the storage": (
        rewritten(WEIGHTS, lambda m: [(n, d.replace(b"QK\x00K\x04\x85", b"QK\x01K\x04\x85")) for n, d in m]),
        "model.tensor_out_of_bounds",
    ),
    "storage shorter than said": (
        rewritten(WEIGHTS, lambda m: [(n, d[:-4] if d == FLOATS else d) for n, d in m]),
        "model.tensor_out_of_bounds",
    ),
    "storage missing": (
        rewritten(WEIGHTS, lambda m: [(n, d) for n, d in m if not n.endswith("data/1")]),
        "model.malformed_container",
    ),
    "storage nobody names": (
        rewritten(WEIGHTS, lambda m: [*m, ("archive/data/2", b"hidden")]),
        "model.malformed_container",
    ),
    "member nobody writes": (
        rewritten(WEIGHTS, lambda m: [*m, ("archive/run.py", b"hidden")]),
        "model.malformed_container",
    ),
    "two roots": (rewritten(WEIGHTS, lambda m: [*m, ("other/version", b"3")]), "model.malformed_container"),
    "path upwards": (
        rewritten(WEIGHTS, lambda m: [*m, ("archive/../x", b"3")]),
        "model.malformed_container",
    ),
    "two pickles": (rewritten(WEIGHTS, lambda m: [*m, m[0]]), "model.malformed_container"),
    "big-endian": (replaced(WEIGHTS, byteorder=b"big"), "model.malformed_container"),
    "deflated": (deflated(WEIGHTS), "model.compressed_member"),
    "encrypted flag": (
        WEIGHTS.replace(b"PK\x01\x02\0\0\0\0\x08\x08", b"PK\x01\x02\0\0\0\0\x09\x08", 1),
        "model.malformed_container",
    ),
    "a member that calls itself a folder": (
        WEIGHTS[: ENTRY - 8] + b"\x10" + WEIGHTS[ENTRY - 7 :],
        "model.malformed_container",
    ),
    "bytes in front": (b"PK\x03\x04junk" + WEIGHTS, "model.malformed_container"),
    "bytes behind": (WEIGHTS + b"junk", "model.malformed_container"),
    "a changed number": (WEIGHTS.replace(FLOATS, FLOATS[::-1], 1), "model.malformed_container"),
    "another name in the header": (
        WEIGHTS.replace(b"archive/data/0", b"archive/data/9", 1),
        "model.malformed_container",
    ),
}


@pytest.mark.parametrize(("content", "code"), NOT_THIS_FORMAT.values(), ids=NOT_THIS_FORMAT)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, code: str) -> None:
    assert code_of(tmp_path / "model.safetensors", content) == code


@pytest.mark.parametrize(("content", "code"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_checkpoint_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    assert code_of(tmp_path / "in", content) == code


@pytest.mark.parametrize("sixteenth", range(1, 16))
def test_a_file_cut_short_is_refused(tmp_path: Path, sixteenth: int) -> None:
    kept = len(WEIGHTS) * sixteenth // 16
    assert code_of(tmp_path / "in", WEIGHTS[:kept]) == "model.truncated"


def test_a_file_with_one_bad_bit_is_refused_or_means_the_same(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(WEIGHTS)
    good = read_stored(path).tensors
    for at in range(0, len(WEIGHTS), 5):
        path.write_bytes(WEIGHTS[:at] + bytes([WEIGHTS[at] ^ (1 << at % 8)]) + WEIGHTS[at + 1 :])
        with contextlib.suppress(ModelError):
            found = read_stored(path).tensors
            assert found.keys() == good.keys()
            assert all(torch.equal(found[key], good[key]) for key in good)


def test_what_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, code in {"none": "model.missing", ".": "model.not_a_file", "fifo": "model.not_a_file"}.items():
        with pytest.raises(ModelError) as caught:
            read_stored(tmp_path / name)
        assert caught.value.code == code
    with pytest.raises(ModelError) as caught:
        read_stored(Path())
    assert "'.' is not a file" in caught.value.detail, "as it was given, and not its empty name"
    with pytest.raises(ModelError) as caught:
        read_stored(tmp_path / ("x" * 300))
    assert caught.value.code == "model.unreadable"
