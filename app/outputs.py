"""Output folders: no file of a result is there in part.

Everything is written into a hidden folder beside the results, and moved into place once all of it is whole: a full disk
or Ctrl-C before then changes nothing. The files move one by one, so what stops the moving itself leaves new ones beside
old ones.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import OptionsError, OutputError

ELSEWHERE = "Name another folder with --out."


@contextmanager
def written(out: Path, stale: Iterable[str] = ()) -> Iterator[Path]:
    """A folder whose files move into `out` once all of them are whole.

    Files of the names `stale` that are not among them are an earlier run's, speak of its other files, and go.
    Raises `OutputError` when the disk does not take them.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".partial-") as hidden:
            partial = Path(hidden)
            yield partial
            made = {file.name: file for file in partial.iterdir()}
            for name in set(stale) - made.keys():
                (out / name).unlink(missing_ok=True)
            for name, file in made.items():
                file.replace(out / name)
    except OSError as error:
        raise OutputError(
            f"The results could not be written to {str(out)!r}: {error.strerror or error}."
        ) from error


def check(
    out: Path,
    names: Iterable[str] = (),
    inputs: Iterable[Path | None] = (),
    orphans: Iterable[str] = (),
) -> None:
    """Refuse, before any work is done, an `out` that cannot take files of these names; leaves it as it was.

    They must replace none of the inputs, nor the report on `orphans`, files of an earlier run that stay there.
    Raises `OptionsError` (options.out) for an input, `OutputError` (output.unwritable; output.exists for an orphan).
    """
    _check_folder(out)
    given = {path.resolve() for path in inputs if path is not None}
    for target in (out / name for name in names if name):  # the path '.' has none
        if target.resolve() in given:
            raise OptionsError(
                f"{str(target)!r} is one of the inputs, and the results would overwrite it.",
                code="options.out",
                remedy=ELSEWHERE,
            )
        if target.is_dir():
            raise OutputError(
                f"{str(target)!r} is a folder, and a file of the results has this name.", remedy=ELSEWHERE
            )
    for orphan in (out / name for name in orphans):
        if orphan.exists():
            raise OutputError(
                f"{str(orphan)!r} is of an earlier run, and would lose the report on it.",
                code="output.exists",
                remedy=ELSEWHERE,
            )


def _check_folder(out: Path) -> None:
    """Make what `written` makes first, and take it away again: only the disk knows what it allows."""
    if os.path.lexists(out) and not out.is_dir():
        raise OutputError(f"{str(out)!r} is not a folder.", remedy=ELSEWHERE)
    made = [folder for folder in (out, *out.parents) if not os.path.lexists(folder)]
    try:
        with written(out):
            pass
    finally:
        for folder in made:
            with suppress(OSError):  # it could not be made, or somebody else has filled it meanwhile
                folder.rmdir()
