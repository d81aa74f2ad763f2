"""What is fuzzed: each target takes any bytes, and returns or fails; what it must never do is an assertion in it.

Hypothesis calls them in the tests, and atheris for longer by `make fuzz`. What they find becomes a row of the corpus.
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from app.contract.limits import input_limits
from app.errors import SanitizerError
from tests.hostile import archives, checkpoints, headers, pixels
from tests.hostile.interface import Kind
from tests.hostile.table import rows
from worker.cli.arguments import parse_options
from worker.formats.pickles import read_pickle
from worker.formats.references import TensorRef
from worker.formats.stored import read_stored, write_stored
from worker.samples.read import read_samples
from worker.samples.unlabelled import read_images
from worker.zips.audit import audit
from worker.zips.content import content
from worker.zips.interface import Flaw

LARGEST_SEED = 4096


def zips(data: bytes) -> None:
    """An accepted archive has the members that zipfile finds, of the same contents."""
    file = io.BytesIO(data)
    try:
        archive = audit(file, len(data), 1000, 1 << 20)
        found = {m.name: content(file, m) for m in archive.members if m.size <= 1 << 20}
    except Flaw:
        return
    with zipfile.ZipFile(file) as other:
        assert len(other.infolist()) == len(archive.members)
        for member, info in zip(archive.members, other.infolist(), strict=True):
            assert (member.size, member.packed, member.method) == (
                info.file_size,
                info.compress_size,
                info.compress_type,
            )
            if member.name in found and member.crc:
                assert (
                    other.open(info.filename if info.filename == member.name else info).read()
                    == found[member.name]
                )


def pickles(data: bytes) -> None:
    """What is read is made of plain values and descriptions of tensors."""
    try:
        root, _ = read_pickle(data)
    except SanitizerError:
        return
    pending: list[object] = [root]
    while pending:
        value = pending.pop()
        assert type(value).__name__ in PLAIN
        if isinstance(value, dict):
            pending += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            pending += value


PLAIN = {
    "dict",
    "OrderedDict",
    "list",
    "tuple",
    "str",
    "int",
    "float",
    "bool",
    "NoneType",
    TensorRef.__name__,
}


def models(data: bytes) -> None:
    """What is read can be written again, and gives the very same bytes."""
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "model"), Path(folder, "written")
        source.write_bytes(data)
        try:
            stored = read_stored(source)
        except SanitizerError:
            return
        assert sum(tensor.nbytes for tensor in stored.tensors.values()) <= input_limits().model.shared * len(
            data
        )
        write_stored(stored, stored.tensors, target)
        assert target.read_bytes() == data


def samples(data: bytes) -> None:
    """What is read has the shape that was asked for."""
    with TemporaryDirectory() as folder:
        source = Path(folder, "samples.npz")
        source.write_bytes(data)
        try:
            found, _ = read_samples(source, 2, pixels.PIXELS)
        except SanitizerError:
            return
    assert found.images.shape[1:] == pixels.PIXELS
    assert found.labels.min() >= 0
    assert found.labels.max() < 2


def suspects(data: bytes) -> None:
    """What is read has the shape that was asked for, and a name for each image."""
    with TemporaryDirectory() as folder:
        source = Path(folder, "suspects")
        source.write_bytes(data)
        try:
            found, _ = read_images(source, pixels.PIXELS)
        except SanitizerError:
            return
    assert found.images.shape == (len(found.names), *pixels.PIXELS)


def options(data: bytes) -> None:
    """Options that are accepted come back from their own JSON."""
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        read = parse_options(given)
    except SanitizerError:
        return
    assert parse_options(json.loads(read.model_dump_json())) == read


TARGETS: dict[str, Callable[[bytes], None]] = {
    "zips": zips,
    "pickles": pickles,
    "models": models,
    "samples": samples,
    "suspects": suspects,
    "options": options,
}


def seeds(name: str) -> Iterable[bytes]:
    """Files to begin with: good ones, and the small ones of the corpus."""
    kind = {"samples": Kind.SAMPLES, "suspects": Kind.SAMPLES, "options": Kind.OPTIONS}.get(name, Kind.MODEL)
    good = {
        "zips": [archives.GOOD, checkpoints.WEIGHTS],
        "pickles": [checkpoints.state(("a", checkpoints.tensor()))],
        "models": [checkpoints.WEIGHTS, headers.GOOD],
        "samples": [archives.GOOD, pixels.npz(pixels.IMAGES, pixels.LABELS)],
        "suspects": [archives.GOOD, pixels.npz(pixels.IMAGES, pixels.LABELS)],
        "options": [b"{}"],
    }
    yield from good[name]
    if name == "pickles":
        return
    for row in rows():
        if row.kind is kind and row.number not in LARGE:
            yield from (data for data in row.make() if len(data) <= LARGEST_SEED)


LARGE = {"25", "27b", "33a", "33b", "34a", "34b", "46", "59", "62", "67", "72"}
