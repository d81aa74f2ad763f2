"""Output folders: every file of a result is whole, or none is there.

Everything is written into a hidden folder beside the results and then moved into place, so that neither a full disk nor
Ctrl-C leaves half of an output.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import OutputError


@contextmanager
def written(out: Path) -> Iterator[Path]:
    """A folder whose files move into `out` once all of them are whole.

    Raises `OutputError` when the disk does not take them.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".partial-") as name:
            partial = Path(name)
            yield partial
            for file in partial.iterdir():
                file.replace(out / file.name)
    except OSError as error:
        raise OutputError(
            f"The results could not be written to {str(out)!r}: {error.strerror or error}."
        ) from error


def check_folder(out: Path) -> None:
    """Refuse, before any work is done, what nothing could be written into; leaves `out` as it was.

    Makes what `written` makes first, and takes it away again: only the disk knows what it allows.
    Raises `OutputError`.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise OutputError(f"{str(out)!r} is not a folder.", remedy="Name another folder with --out.")
    made = [folder for folder in (out, *out.parents) if not os.path.lexists(folder)]
    try:
        with written(out):
            pass
    finally:
        for folder in made:
            with suppress(OSError):  # it could not be made, or somebody else has filled it meanwhile
                folder.rmdir()
