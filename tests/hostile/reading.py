"""What becomes of one file: `read` in this process, or, as a module of the door, of a list of files in a cage."""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from errno import EFBIG, EMFILE, ENOMEM, ENOSYS, EXDEV
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import SanitizerError
from tests.hostile.interface import ACCEPTED, DENIED, Kind

if TYPE_CHECKING:
    from app.contract.confinement import Confinement

REFUSALS = frozenset({EFBIG, EMFILE, ENOMEM, ENOSYS, EXDEV})
CLASSES, PIXELS = 2, (3, 8, 8)


@dataclass(frozen=True)
class Outcome:
    """The answer that a file got: a code, or `accepted` with a digest of what was read."""

    answer: str
    seconds: float = 0.0
    digest: str = ""
    words: str = ""


def read(kind: Kind, path: Path) -> Outcome:
    """Read a file as the pipeline does. Lets pass only what no reader may raise."""
    began = time.monotonic()
    try:
        answer, digest, words = ACCEPTED, READERS[kind](path), ""
    except SanitizerError as error:
        answer, digest, words = error.code, "", f"{error.detail} {error.remedy}"
    return Outcome(answer, time.monotonic() - began, digest, words)


def _model(path: Path) -> str:
    from worker.formats.stored import read_stored

    tensors = read_stored(path).tensors
    whole = hashlib.sha256()
    for name, tensor in tensors.items():
        whole.update(
            f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
            + bytes(tensor.flatten().untyped_storage())
        )
    return whole.hexdigest()


def _network(path: Path) -> str:
    from worker.formats.load import load

    return load(path).architecture


def _samples(path: Path) -> str:
    from worker.samples.read import read_samples

    samples, _ = read_samples(path, CLASSES, PIXELS)
    return f"{tuple(samples.images.shape)} {samples.labels.tolist()}"


def _options(path: Path) -> str:
    from worker.cli.arguments import parse_options

    return parse_options(json.loads(path.read_bytes())).model_dump_json()


def _code(path: Path) -> str:
    """Run it. Its being denied is an answer like any other."""
    try:
        exec(path.read_text(), {"__name__": "break_in"})  # noqa: S102 - that is what is tried
    except (PermissionError, MemoryError) as error:
        raise _Denied(repr(error)) from error
    except OSError as error:
        if error.errno in REFUSALS:
            raise _Denied(repr(error)) from error
        raise
    except ValueError as error:  # resource.setrlimit
        raise _Denied(repr(error)) from error
    return "it was done"


class _Denied(SanitizerError):
    code = DENIED


READERS: dict[Kind, Callable[[Path], str]] = {
    Kind.MODEL: _model,
    Kind.NETWORK: _network,
    Kind.SAMPLES: _samples,
    Kind.OPTIONS: _options,
    Kind.CODE: _code,
}


def main(_: "Confinement") -> int:
    """Read the files that the first argument lists, and print a line for each before the next is opened."""
    for kind, name in json.loads(Path(sys.argv[1]).read_bytes()):
        try:
            outcome = read(Kind(kind), Path(name))
        except Exception as error:  # noqa: BLE001 - a defect of a reader is what is looked for
            outcome = Outcome(f"defect: {error!r}")
        print(json.dumps(vars(outcome)), flush=True)
    return 0
