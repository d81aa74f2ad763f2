"""What a job leaves behind: an output folder in which every file is whole."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath

from app import outputs
from app.attestation import names
from app.contract.artifact import file_name as safe_name
from app.contract.changes import Changes, Edits
from app.contract.report import Outcome, Report
from app.contract.screening import Screening
from app.errors import ChangesError, OptionsError, OutputError
from app.reports import as_json
from worker.formats.load import save
from worker.formats.stored import read_stored, write_stored
from worker.pipelines.curate import Curated
from worker.pipelines.pictures import contact_sheet, lossless
from worker.pipelines.reporting import method
from worker.pipelines.sanitize import Sanitized
from worker.pipelines.screen import Screened
from worker.repair.edits import replay
from worker.samples.entries import file_digest

REPORT_JSON, REPORT_HTML = "report.json", "report.html"
CHANGES, BEST_CHANGES = "changes.json", "best-candidate.json"

SCREENING, SCREENING_HTML, SHEET = "screening.json", "screening.html", "suspects.png"
CURATION, IMAGES = "curated.json", "images"

OF_A_REPORT = (REPORT_JSON, REPORT_HTML, *names.FILES)
OF_A_MODEL = (*OF_A_REPORT, CHANGES, BEST_CHANGES)  # and the model itself
OF_A_SCREENING = (SCREENING, SCREENING_HTML, SHEET)

Renderers = Mapping[str, Callable[[Report], str]]
Page = Callable[[Screening, bytes], str]  # of a screening and its contact sheet
Evidence = Callable[[Report, Mapping[str, str]], Mapping[str, bytes]]


def check(out: Path, model: Path, *others: Path | None) -> None:
    """Refuse, before any work is done, what `deliver` could not write to, or would write over one of the inputs.

    Raises `OptionsError` (options.out, options.name), `OutputError`; leaves `out` as it was.
    """
    outputs.check(out, (*OF_A_MODEL, model.name), (model, *others))
    if model.name in OF_A_MODEL:
        raise OptionsError(
            f"A model named {model.name!r} would be given back under the name of another file of the output.",
            code="options.name",
            remedy="Give the model file another name.",
        )


def check_report(out: Path, *inputs: Path | None) -> None:
    """Refuse, as `check` does, what `deliver_report` could not write to, or would write over.

    Raises `OptionsError` (options.out), `OutputError` (output.unwritable; output.exists where changes are).
    """
    outputs.check(out, OF_A_REPORT, inputs, orphans=(CHANGES,))


def check_screening(out: Path, model: Path, samples: Path, suspects: Path) -> None:
    """Refuse, as `check` does, what `deliver_screening` could not write to, or would write over.

    The sheet of pictures must not become one of the suspects either.
    Raises `OptionsError` (options.out), `OutputError`.
    """
    outputs.check(out, OF_A_SCREENING, (model, samples, suspects))
    _check_outside(out, suspects, "suspects", "the pictures of the most suspicious")


def check_curation(out: Path, model: Path, pool: Path) -> None:
    """Refuse, as `check` does, what `deliver_curation` could not write to, or would write over.

    Nothing may mix with the pool, or with images that somebody may be labelling.
    Raises `OptionsError` (options.out), `OutputError` (output.unwritable; output.exists for such images).
    """
    outputs.check(out, (CURATION,), (model, pool))
    _check_outside(out, pool, "pool", "the chosen images")
    images = out / IMAGES
    if images.exists() and (not images.is_dir() or any(images.iterdir())):
        raise OutputError(
            f"{str(images)!r} is there already, and somebody may be labelling what it holds.",
            code="output.exists",
            remedy="Name another folder with --out, or move those images away.",
        )


def deliver(result: Sanitized, out: Path, renderers: Renderers, attest: Evidence | None = None) -> Report:
    """Write the model, its changes and the report into `out`; the report then names the digest of the written model.

    `attest` makes the evidence that lies beside them; without it there is none.
    Raises `OutputError` when the disk does not take it.
    """
    source = result.model.stored
    with outputs.written(out, stale=OF_A_MODEL) as partial:
        model = partial / source.path.name
        save(result.model, result.tensors, model)
        digest = read_stored(model).digest
        if result.outcome is not Outcome.REPAIRED and digest != source.digest:
            raise OutputError("The unchanged model did not come back bit for bit.", code="output.changed")
        report = result.report.model_copy(update={"result_digest": digest})
        _write_changes(partial / CHANGES, source.digest, digest, report.repair.method, result.edits)
        if result.best_edits:
            best = partial / "best"
            save(result.model, replay(result.best_edits, source.tensors), best)
            best_digest = read_stored(best).digest
            best.unlink()
            how = method(report.repair.candidates[report.repair.best_candidate or 0])
            _write_changes(partial / BEST_CHANGES, source.digest, best_digest, how, result.best_edits)
        _render(report, partial, renderers)
        _attest(report, partial, attest)
    return report


def deliver_report(report: Report, out: Path, renderers: Renderers, attest: Evidence | None = None) -> None:
    """Write a report that stands alone into `out`. Raises `OutputError` when the disk does not take it."""
    with outputs.written(out, stale=OF_A_REPORT) as partial:
        _render(report, partial, renderers)
        _attest(report, partial, attest)


def deliver_screening(screened: Screened, out: Path, page: Page | None = None) -> None:
    """Write scores, contact sheet and, with `page`, what people read into `out`.

    Raises `OutputError` when the disk does not take it.
    """
    sheet = contact_sheet(screened.images)
    with outputs.written(out, stale=OF_A_SCREENING) as partial:
        (partial / SCREENING).write_text(as_json.render(screened.report), encoding="utf-8")
        if page is not None:
            (partial / SCREENING_HTML).write_text(page(screened.report, sheet), encoding="utf-8")
        if sheet:
            (partial / SHEET).write_bytes(sheet)


def deliver_curation(curated: Curated, out: Path) -> None:
    """Write the choice, and each chosen image as PNG, into `out`.

    Raises `OutputError` when the disk does not take it.
    """
    with outputs.written(out) as partial:
        (partial / CURATION).write_text(as_json.render(curated.report), encoding="utf-8")
        (partial / IMAGES).mkdir()
        for rank, (chosen, image) in enumerate(
            zip(curated.report.chosen, curated.images, strict=True), start=1
        ):
            (partial / IMAGES / image_name(rank, chosen.name)).write_bytes(lossless(image))


def image_name(rank: int, name: str) -> str:
    """A name of its own that is safe on every disk: the rank in the choice, and what is left of the pool's name."""
    stem = safe_name(PurePath(name).stem)
    return f"{rank:05}-{stem}.png" if stem else f"{rank:05}.png"


def apply(changes_path: Path, model_path: Path, target: Path) -> Changes:
    """Replay `changes_path` on `model_path` into `target`, and prove that it gave the promised file.

    Raises `ChangesError` when the changes were made for another file, `OptionsError` (options.out) when `target` is a
    folder or one of the two, `OutputError` when the disk does not take it.
    """
    _check_target(target, changes_path, model_path)
    try:
        changes = Changes.model_validate_json(changes_path.read_bytes())
    except (OSError, ValueError) as error:
        raise ChangesError(
            f"{str(changes_path)!r} is not a list of changes.",
            code="changes.unreadable",
            remedy="Name the changes.json of an earlier run.",
        ) from error
    stored = read_stored(model_path)
    if stored.digest != changes.source_digest:
        raise ChangesError(
            f"The changes were made for {changes.source_digest}, and {model_path.name!r} is {stored.digest}.",
            remedy="Apply them to the very file that was sanitized.",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".partial-") as name:
            model = Path(name) / target.name
            write_stored(stored, replay(changes, stored.tensors), model)
            digest = read_stored(model).digest
            if digest != changes.result_digest:
                raise ChangesError(
                    f"The edits gave {digest} where {changes.result_digest} was promised.",
                    code="changes.not_reproduced",
                    remedy="The list of changes was altered, or written by another version; run sanitize again.",
                )
            model.replace(target)
    except OSError as error:
        raise OutputError(f"{target.name!r} could not be written: {error.strerror or error}.") from error
    return changes


def _check_outside(out: Path, images: Path, what: str, written: str) -> None:
    if out.resolve().is_relative_to(images.resolve()):
        raise OptionsError(
            f"The output folder lies in the {what}; {written} would be read as part of it the next time.",
            code="options.out",
            remedy="Name another folder with --out.",
        )


def _check_target(target: Path, *inputs: Path) -> None:
    why = ""
    if target.is_dir():
        why = "is a folder; the repaired model is one file"
    elif target.resolve() in {path.resolve() for path in inputs}:
        why = "is one of the inputs, and the repaired model would overwrite it"
    if why:
        raise OptionsError(f"{str(target)!r} {why}.", code="options.out", remedy="Name another file.")


def _render(report: Report, folder: Path, renderers: Renderers) -> None:
    for file_name, render in renderers.items():
        (folder / file_name).write_text(render(report), encoding="utf-8")


def _attest(report: Report, partial: Path, attest: Evidence | None) -> None:
    if attest is not None:
        files = {path.name: file_digest(path) for path in partial.iterdir()}
        for file_name, data in attest(report, files).items():
            (partial / file_name).write_bytes(data)


def _write_changes(path: Path, source: str, result: str, method: str, edits: Edits) -> None:
    changes = Changes(
        source_digest=source,
        result_digest=result,
        method=method,
        edits=edits.edits,
        rewrites=edits.rewrites,
    )
    path.write_text(changes.model_dump_json(indent=1) + "\n", encoding="utf-8")
