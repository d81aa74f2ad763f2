"""What a job leaves behind: an output folder in which every file is whole, or none is.

Everything is written into a hidden folder beside the results and then moved into place, so that neither a full disk nor
Ctrl-C leaves half of an output.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from app.contract.changes import Changes, Edit
from app.contract.report import Outcome, Report
from app.errors import ChangesError, OptionsError, OutputError
from worker.formats.load import save
from worker.formats.stored import read_stored, write_stored
from worker.pipelines.sanitize import Sanitized
from worker.repair.edits import replay

REPORT_JSON, REPORT_HTML = "report.json", "report.html"
CHANGES, BEST_CHANGES = "changes.json", "best-candidate.json"

Renderers = Mapping[str, Callable[[Report], str]]


def check(out: Path, model: Path) -> None:
    """Refuse, before any work is done, an output folder that cannot be one. Raises `OptionsError`, `OutputError`."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{str(out)!r} is not a folder.", remedy="Name another folder with --out.")
    if (out / model.name).resolve() == model.resolve():
        raise OptionsError(
            "The output folder is the one that the model lies in; the repaired model would overwrite the suspect.",
            code="options.out",
            remedy="Name another folder with --out.",
        )


def deliver(result: Sanitized, out: Path, renderers: Renderers) -> Report:
    """Write the model, its changes and the report into `out`; the report then names the digest of the written model.

    Raises `OutputError` when the disk does not take it.
    """
    source = result.model.stored
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".partial-") as name:
            partial = Path(name)
            written = partial / source.path.name
            save(result.model, result.tensors, written)
            digest = read_stored(written).digest
            if result.outcome is not Outcome.REPAIRED and digest != source.digest:
                raise OutputError("The unchanged model did not come back bit for bit.", code="output.changed")
            report = result.report.model_copy(update={"result_digest": digest})
            _write_changes(partial / CHANGES, source.digest, digest, report.repair.method, result.edits)
            (out / BEST_CHANGES).unlink(missing_ok=True)
            if result.best_edits:
                best = partial / "best"
                save(result.model, replay(result.best_edits, source.tensors), best)
                best_digest = read_stored(best).digest
                best.unlink()
                _write_changes(
                    partial / BEST_CHANGES, source.digest, best_digest, "RNP prune", result.best_edits
                )
            for file_name, render in renderers.items():
                (partial / file_name).write_text(render(report), encoding="utf-8")
            for file in partial.iterdir():
                file.replace(out / file.name)
    except OSError as error:
        raise OutputError(
            f"The results could not be written to {str(out)!r}: {error.strerror or error}."
        ) from error
    return report


def apply(changes_path: Path, model_path: Path, target: Path) -> Changes:
    """Replay `changes_path` on `model_path` into `target`, and prove that it gave the promised file.

    Raises `ChangesError` when the changes were made for another file, `OutputError` when the disk does not take it.
    """
    try:
        changes = Changes.model_validate_json(changes_path.read_bytes())
    except (OSError, ValueError) as error:
        raise ChangesError(
            f"{changes_path.name!r} is not a list of changes.",
            code="changes.unreadable",
            remedy="Name the changes.json of an earlier run.",
        ) from error
    stored = read_stored(model_path)
    if stored.digest != changes.source_digest:
        raise ChangesError(
            f"The changes were made for {changes.source_digest}, and {model_path.name!r} is {stored.digest}.",
            remedy="Apply them to the very file that was sanitized.",
        )
    if target.resolve() == model_path.resolve():
        raise OptionsError(
            "The repaired model would overwrite the suspect.", code="options.out", remedy="Name another file."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as name:
            written = Path(name) / target.name
            write_stored(stored, replay(changes.edits, stored.tensors), written)
            digest = read_stored(written).digest
            if digest != changes.result_digest:
                raise ChangesError(
                    f"The edits gave {digest} where {changes.result_digest} was promised.",
                    code="changes.not_reproduced",
                    remedy="The list of changes was altered, or written by another version; run sanitize again.",
                )
            shutil.move(written, target)
    except OSError as error:
        raise OutputError(f"{target.name!r} could not be written: {error.strerror or error}.") from error
    return changes


def _write_changes(path: Path, source: str, result: str, method: str, edits: tuple[Edit, ...]) -> None:
    changes = Changes(source_digest=source, result_digest=result, method=method, edits=edits)
    path.write_text(changes.model_dump_json(indent=1) + "\n", encoding="utf-8")
