"""PyTorch checkpoints: read as torch reads them, and back byte for byte but for what was changed."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from app.errors import OutputError
from worker.formats.stored import read_stored, write_stored


def saved(value: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


def training() -> dict[str, object]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [5, 10])
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    scheduler.step()
    return {
        "epoch": 3,
        "arch": "resnet18",
        "best": (0.9, None, True),
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "history": [{"loss": 0.5}, torch.ones(2)],
    }


def assert_equal(one: object, other: object) -> None:
    """Equal in structure, types, numbers, dtypes and `_metadata`."""
    assert type(one) is type(other)
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        assert (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        assert torch.equal(one, other)
    elif isinstance(one, dict) and isinstance(other, dict):
        assert list(one) == list(other)
        assert vars(one) == vars(other) if isinstance(one, OrderedDict) else True
        for key, value in one.items():
            assert_equal(value, other[key])
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    else:
        assert one == other


GOOD_VALUES = {
    "state dict": network().state_dict(),
    "plain dict": dict(network().state_dict()),
    "parameters": dict(network().named_parameters()),
    "training": training(),
    "under model": {"model": network().state_dict()},
    "under net": {"net": network().state_dict(), "acc": 93.2},
    "under model_state_dict": {"model_state_dict": network().state_dict(), "lr": [0.1, 0.01]},
    "parallel": nn.DataParallel(network()).state_dict(),
    "channels last": network().to(memory_format=torch.channels_last).state_dict(),
    "half": network().half().state_dict(),
    "bfloat16": network().bfloat16().state_dict(),
    "double": network().double().state_dict(),
    "integers": {
        "a": torch.arange(5, dtype=torch.int8),
        "b": torch.tensor([True, False]),
        "c": torch.tensor(7),
    },
    "empty tensor": {"a": torch.ones(0, 3), "b": torch.ones(2)},
    "rows of a larger tensor": {"a": torch.rand(10, 4)[3:5], "b": torch.rand(3, 5).t()},
    "columns of a larger tensor": {"a": torch.rand(10, 4)[:, 1:3]},
    "expanded along one": {"a": torch.arange(3).expand(1, -1)},
    "not a number": {"a": torch.tensor([float("nan"), -0.0, float("inf")])},
}


def state_dict_of(value: object) -> dict[str, Tensor]:
    assert isinstance(value, dict)
    nested = [value[key] for key in ("state_dict", "model", "net", "model_state_dict") if key in value]
    return nested[0] if nested else value


@pytest.mark.parametrize("value", GOOD_VALUES.values(), ids=GOOD_VALUES)
def test_any_checkpoint_is_read_as_torch_reads_it_and_comes_back_byte_for_byte(
    tmp_path: Path, value: object
) -> None:
    source, target = tmp_path / "source.pt", tmp_path / "target.pt"
    torch.save(value, source)
    stored = read_stored(source)
    expected = state_dict_of(torch.load(source, weights_only=True))
    assert stored.format == "pytorch"
    assert list(stored.tensors) == list(expected)
    for key, tensor in stored.tensors.items():
        assert tensor.dtype == expected[key].dtype
        assert tensor.is_contiguous()
        torch.testing.assert_close(tensor, expected[key].detach(), rtol=0, atol=0, equal_nan=True)
    write_stored(stored, stored.tensors, target)
    assert target.read_bytes() == source.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["training", "channels last", "rows of a larger tensor", "bfloat16"])
def test_a_changed_tensor_is_the_only_change(tmp_path: Path, name: str) -> None:
    source, target = tmp_path / "source.pt", tmp_path / "target.pt"
    torch.save(GOOD_VALUES[name], source)
    stored = read_stored(source)
    before = {key: tensor.clone() for key, tensor in stored.tensors.items()}
    key = next(iter(before))
    changed = stored.tensors | {key: stored.tensors[key] + 1}
    write_stored(stored, changed, target)

    expected = torch.load(source, weights_only=True)
    state_dict_of(expected)[key].add_(1)
    assert_equal(torch.load(target, weights_only=True), expected)
    assert_equal(dict(stored.tensors), before)
    assert_equal(dict(read_stored(target).tensors), dict(changed))
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None


def with_addresses(state: dict[str, Tensor]) -> bytes:
    """As torch saved it at first: each storage has its address for a name."""
    storages: dict[str, torch.UntypedStorage] = {}

    class Addressing(pickle.Pickler):
        def persistent_id(self, value: object) -> tuple[object, ...] | None:
            if not isinstance(value, torch.storage.TypedStorage):
                return None
            storage = value._untyped_storage
            name = str(storage.data_ptr())
            storages[name] = storage
            return "storage", torch.FloatStorage, name, "cpu", storage.nbytes() // 4

    structure, written = io.BytesIO(), io.BytesIO()
    Addressing(structure, protocol=2).dump(state)
    writer = torch.PyTorchFileWriter(written)
    writer.write_record("data.pkl", structure.getvalue(), structure.tell())
    for name, storage in storages.items():
        writer.write_record(f"data/{name}", storage, storage.nbytes())
    writer.write_end_of_file()
    return written.getvalue()


def test_storages_may_be_named_by_their_addresses(tmp_path: Path) -> None:
    source, target = tmp_path / "source.pt", tmp_path / "target.pt"
    state = {name: tensor.detach() for name, tensor in network().named_parameters()}
    source.write_bytes(with_addresses(state))
    assert_equal(torch.load(source, weights_only=True), state)
    stored = read_stored(source)
    assert_equal(dict(stored.tensors), state)
    write_stored(stored, stored.tensors, target)
    assert target.read_bytes() == source.read_bytes()
    with zipfile.ZipFile(source) as archive:
        assert max(len(Path(name).name) for name in archive.namelist()) > 9, "or this proves nothing"


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    weight = torch.rand(3)
    source, target = tmp_path / "source.pt", tmp_path / "target.pt"
    torch.save({"a": weight, "b": weight, "c": torch.ones(1)}, source)
    stored = read_stored(source)
    changed = {key: tensor + 1 for key, tensor in stored.tensors.items()}
    write_stored(stored, changed, target)
    found = torch.load(target, weights_only=True)
    assert_equal(found, changed)
    assert found["a"].data_ptr() == found["b"].data_ptr()

    with pytest.raises(OutputError) as caught:
        write_stored(stored, changed | {"b": stored.tensors["b"]}, tmp_path / "never.pt")
    assert caught.value.code == "output.shared_tensors"
    assert not (tmp_path / "never.pt").exists()


def test_an_archive_without_checksums_stays_one(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        content = saved({"a": torch.ones(3)})
    finally:
        torch.serialization.set_crc32_options(True)
    (tmp_path / "source").write_bytes(content)
    stored = read_stored(tmp_path / "source")
    write_stored(stored, {"a": torch.zeros(3)}, tmp_path / "target")
    written = (tmp_path / "target").read_bytes()
    assert written == content.replace(struct.pack("<3f", 1, 1, 1), bytes(12))


def test_an_archive_that_python_packed_again_is_accepted(tmp_path: Path) -> None:
    content = saved({"a": torch.ones(3)})
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(tmp_path / "source", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    stored = read_stored(tmp_path / "source")
    write_stored(stored, {"a": torch.zeros(3)}, tmp_path / "target")
    assert_equal(torch.load(tmp_path / "target", weights_only=True), {"a": torch.zeros(3)})
    with zipfile.ZipFile(tmp_path / "target") as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize(
    ("keys", "prefix"),
    [
        (["module.a", "module.b"], "module."),
        (["_orig_mod.module.a", "_orig_mod.module.b"], "_orig_mod.module."),
        (["module.a", "b"], ""),
        (["model.a", "model.b"], ""),
    ],
)
def test_the_wrappers_of_a_module_are_named(tmp_path: Path, keys: list[str], prefix: str) -> None:
    torch.save({key: torch.ones(1) for key in keys}, tmp_path / "in")
    stored = read_stored(tmp_path / "in")
    assert stored.prefix == prefix
    assert list(stored.tensors) == keys


def test_each_tensor_has_memory_of_its_own(tmp_path: Path) -> None:
    weight = torch.ones(3)
    torch.save({"a": weight, "b": weight}, tmp_path / "in")
    stored = read_stored(tmp_path / "in")
    stored.tensors["a"].zero_()
    assert stored.tensors["b"].tolist() == [1, 1, 1]
