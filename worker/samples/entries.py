"""The files of a folder or of a zip archive, by the path they have inside, and rules that hold for both.

Knows files and bytes; knows nothing of images, classes or tensors.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.contract.limits import input_limits
from app.errors import SamplesError

LITTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})  # what desktops leave in every folder they show
SOME = 5  # names in a warning about many


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. `name` is its path inside, with "/" between the parts; `read` gives at most `entry_bytes`."""

    name: str
    read: Callable[[], bytes]


def shown(name: str) -> str:
    """A foreign name, quoted for a message: nothing unprintable, cut in the middle when long."""
    if len(name) > input_limits().samples.shown_length:
        half = (input_limits().samples.shown_length - 1) // 2
        name = f"{name[:half]}…{name[-half:]}"
    return ascii(name) if not name.isprintable() else f"'{name}'"


def shown_some(names: Sequence[str]) -> str:
    """The first few foreign names, each as `shown`."""
    return ", ".join(map(shown, names[:SOME])) + (", …" if len(names) > SOME else "")


def is_litter(name: str) -> bool:
    """Whether a path is a dot file, or something that a desktop left behind."""
    return any(part in LITTER or part.startswith(".") for part in name.split("/"))


def check_name(name: str) -> None:
    """Raise `samples.entry_path_unsafe` unless `name` is a plain relative path that can be printed."""
    parts = name.removesuffix("/").split("/")
    plain = all(
        part not in {"", ".", ".."} and len(part) <= input_limits().samples.name_length for part in parts
    )
    if not plain or not name.isprintable() or "\\" in name or re.match(r"[A-Za-z]:", name):
        raise SamplesError(
            f"The path {shown(name)} is not a plain relative path.",
            code="samples.entry_path_unsafe",
            remedy="Use printable names with '/' between folders; no '..', no drive, no leading '/'.",
        )


def too_big(name: str) -> SamplesError:
    """The error for one file beyond the limit."""
    return SamplesError(
        f"{shown(name)} is larger than {input_limits().samples.entry_bytes >> 20} MiB.",
        code="samples.too_large",
        remedy="Shrink the image to the size that the model takes.",
    )


def too_many(limit: int, what: str) -> SamplesError:
    """The error for more than `limit` files or images."""
    return SamplesError(
        f"The samples have more than {limit} {what}.",
        code="samples.too_many",
        remedy="Give fewer images; a few hundred, drawn at random from every class, are enough.",
    )


def folder_entries(root: Path) -> tuple[Entry, ...]:
    """The files below `root`, sorted by name, litter left out.

    Raises `SamplesError`: too_many, entry_path_unsafe, and entry_type_forbidden for links and devices.
    """
    found = []
    for path, status in _walk(root):
        name = path.relative_to(root).as_posix()
        check_name(name)
        if not stat.S_ISREG(status.st_mode):
            raise SamplesError(
                f"{shown(name)} is a link or a device.",
                code="samples.entry_type_forbidden",
                remedy="Put the files themselves there: cp -rL copies a folder and resolves its links.",
            )
        found.append(Entry(name, partial(_read_bounded, path, name)))
        if len(found) > input_limits().samples.entries:
            raise too_many(input_limits().samples.entries, "files")
    return tuple(sorted(found, key=lambda entry: entry.name))


def _walk(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below `root` that is no folder; a link to a folder counts as a link."""
    for here, folders, files in os.walk(root, onerror=_fail):
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        folders[:] = [name for name in folders if not is_litter(name)]
        for name in files + links:
            if not is_litter(name):
                path = Path(here) / name
                yield path, path.lstat()


def _fail(error: OSError) -> None:
    """A folder that cannot be listed would otherwise be left out in silence."""
    raise error


def _read_bounded(path: Path, name: str) -> bytes:
    with path.open("rb") as file:
        data = file.read(input_limits().samples.entry_bytes + 1)
    if len(data) > input_limits().samples.entry_bytes:
        raise too_big(name)
    return data


def file_digest(path: Path) -> str:
    """`sha256:…` of one file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def entries_digest(entries: Iterable[Entry]) -> str:
    """`sha256:…` over the digest and the name of each file, as `sha256sum -z` prints them, sorted by name."""
    whole = hashlib.sha256()
    for entry in entries:
        whole.update(f"{hashlib.sha256(entry.read()).hexdigest()}  {entry.name}\0".encode())
    return "sha256:" + whole.hexdigest()


@contextmanager
def readable(path: Path, accepted: str) -> Iterator[None]:
    """What the system says of a path that it does not let us read, as a `SamplesError`."""
    try:
        yield
    except OSError as error:
        raise SamplesError(
            f"{shown(str(path))} cannot be read: {error.strerror}.", remedy=accepted
        ) from error
