"""What is refused before any work is done, what goes where another run was, and what `apply` writes.

The files of a whole run are tested with it.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from app.contract.changes import Changes
from app.errors import OptionsError, OutputError, SanitizerError
from app.reports import as_json
from tests.app.conftest import build as report
from tests.app.reports.test_screening import build as screening
from tests.conftest import BACKDOORED
from worker.formats.stored import read_stored
from worker.pipelines import deliver
from worker.pipelines.screen import Screened

Check = Callable[[Path], None]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file of that name beside which results may be asked for; nobody reads it here."""
    path = tmp_path / "given" / "model.safetensors"
    path.parent.mkdir()
    path.write_text("weights")
    return path


@pytest.fixture(params=["sanitize", "detect", "screen", "curate"])
def check(request: pytest.FixtureRequest, model: Path) -> Check:
    """The check of each command, on inputs that nothing is wrong with."""
    other = model.with_name("other.zip")
    checks: dict[str, Check] = {
        "sanitize": lambda out: deliver.check(out, model, other, None),
        "detect": lambda out: deliver.check_report(out, model, other, None),
        "screen": lambda out: deliver.check_screening(out, model, other, other),
        "curate": lambda out: deliver.check_curation(out, model, other),
    }
    return checks[request.param]


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("out", ["new", "new/deeper/still", "given/new", "there"])
def test_a_folder_that_can_be_written_is_left_as_it_was(check: Check, out: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    before = everything(tmp_path)
    check(tmp_path / out)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    "out", ["file", "file/sub", "file/sub/deeper", "loop", "loop/sub", "nowhere", "new/" + "n" * 300]
)
def test_a_folder_that_cannot_be_made_is_refused_and_leaves_nothing(
    check: Check, out: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("gone")
    before = everything(tmp_path)
    with pytest.raises(OutputError) as caught:
        check(tmp_path / out)
    assert caught.value.code == "output.unwritable"
    assert everything(tmp_path) == before


def test_a_place_that_takes_no_folder_is_refused(check: Check) -> None:
    with pytest.raises(OutputError) as caught:  # not even root may write there
        check(Path("/proc/results/of/a/job"))
    assert caught.value.code == "output.unwritable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("out", ["locked", "locked/sub"])
def test_a_folder_without_permission_is_refused(check: Check, out: str, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError):
        check(tmp_path / out)


def test_a_folder_in_the_place_of_a_result_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    (tmp_path / "out" / model.name).mkdir()
    for refuse in (deliver.check, deliver.check_report):
        with pytest.raises(OutputError, match="is a folder"):
            refuse(tmp_path / "out", model)


def test_only_a_repaired_model_would_overwrite_the_suspect(model: Path) -> None:
    beside, other = model.parent, model.with_name("other.zip")
    deliver.check_report(beside, model, other)
    deliver.check_screening(beside, model, other, other)
    deliver.check_curation(beside, model, other)
    with pytest.raises(OptionsError) as caught:
        deliver.check(beside, model, other)
    assert caught.value.code == "options.out"


def test_a_report_alone_does_not_replace_that_of_a_repair(model: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "changes.json").write_text("{}")
    deliver.check(tmp_path / "out", model)
    with pytest.raises(OutputError) as caught:
        deliver.check_report(tmp_path / "out", model)
    assert caught.value.code == "output.exists"


def test_a_model_keeps_its_name_where_it_is_not_given_back(model: Path, tmp_path: Path) -> None:
    model = model.rename(model.with_name("changes.json"))
    deliver.check_report(tmp_path / "out", model)
    with pytest.raises(OptionsError) as caught:
        deliver.check(tmp_path / "out", model)
    assert caught.value.code == "options.name"


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("best-candidate.json", lambda out, model, given: deliver.check(out, model, given)),
        ("model.safetensors", lambda out, _, given: deliver.check(out, Path("elsewhere", given.name), given)),
        ("report.json", lambda out, _, given: deliver.check_report(out, given)),
        ("report.html", lambda out, model, given: deliver.check_report(out, model, given, None)),
        ("statement.json", lambda out, model, given: deliver.check_report(out, model, None, given)),
        ("screening.json", lambda out, model, given: deliver.check_screening(out, given, model, model)),
        ("suspects.png", lambda out, model, given: deliver.check_screening(out, model, model, given)),
        ("curated.json", lambda out, model, given: deliver.check_curation(out, given, model)),
    ],
)
def test_no_input_is_overwritten(
    name: str, check: Callable[[Path, Path, Path], None], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(OptionsError, match="one of the inputs") as caught:
        check(out, model, out / name)
    assert caught.value.code == "options.out"
    assert (out / name).read_text() == "mine"


@pytest.mark.parametrize("out", ["suspects", "suspects/out"])
def test_the_sheet_of_a_screening_does_not_become_a_suspect(out: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "suspects").mkdir()
    with pytest.raises(OptionsError, match="lies in the suspects"):
        deliver.check_screening(tmp_path / out, model, model, tmp_path / "suspects")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The folder of earlier runs, and of somebody's notes."""
    out = tmp_path / "out"
    out.mkdir()
    for name in (*deliver.OF_A_REPORT, *deliver.OF_A_SCREENING, "notes.txt"):
        (out / name).write_text("old")
    return out


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_what_an_earlier_run_left_goes_where_the_new_one_has_no_such_file(earlier: Path) -> None:
    renderers = {deliver.REPORT_JSON: lambda _: "new"}
    deliver.deliver_report(report(), earlier, renderers, lambda *_: {"statement.json": b"new"})
    kept = dict.fromkeys((*deliver.OF_A_SCREENING, "notes.txt"), "old")
    assert contents(earlier) == kept | {"report.json": "new", "statement.json": "new"}


def test_no_picture_of_other_inputs_stays_beside_a_screening_that_has_none(earlier: Path) -> None:
    of_two_bands = Screened(screening(report()), torch.zeros(1, 2, 4, 4, dtype=torch.uint8))
    deliver.deliver_screening(of_two_bands, earlier)
    assert not {deliver.SHEET, deliver.SCREENING_HTML} & contents(earlier).keys()
    assert contents(earlier)[deliver.SCREENING] == as_json.render(of_two_bands.report)
    assert contents(earlier)["report.html"] == "old"


@pytest.mark.parametrize("stop", [OSError("full"), KeyboardInterrupt()])
def test_a_run_that_does_not_come_to_its_end_takes_nothing_of_an_earlier_one(
    earlier: Path, stop: BaseException
) -> None:
    before = contents(earlier)

    def attest(*_: object) -> dict[str, bytes]:
        raise stop

    with pytest.raises((OutputError, KeyboardInterrupt)):
        deliver.deliver_report(report(), earlier, {deliver.REPORT_JSON: as_json.render}, attest)
    assert contents(earlier) == before


@pytest.fixture
def changes(tmp_path: Path) -> Path:
    """A repair that found nothing to change."""
    digest = read_stored(BACKDOORED).digest
    made = Changes(source_digest=digest, result_digest=digest, method="none")
    (tmp_path / "changes.json").write_text(made.model_dump_json())
    return tmp_path / "changes.json"


def test_apply_writes_one_file_in_the_place_of_an_older_one(changes: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "repaired.safetensors"
    for older in (None, b"older"):
        if older is not None:
            target.write_bytes(older)
        deliver.apply(changes, BACKDOORED, target)
        assert target.read_bytes() == BACKDOORED.read_bytes()
        assert list(target.parent.iterdir()) == [target]


def test_apply_takes_no_folder_and_none_of_its_inputs_as_its_target(changes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repaired"
    folder.mkdir()
    before = changes.read_bytes()
    for target in (folder, changes, BACKDOORED):
        with pytest.raises(OptionsError) as caught:
            deliver.apply(changes, BACKDOORED, target)
        assert caught.value.code == "options.out"
        assert str(target) in caught.value.detail
    assert list(folder.iterdir()) == []
    assert changes.read_bytes() == before


def test_apply_names_what_it_was_given() -> None:
    with pytest.raises(SanitizerError, match="'\\.' is not a list of changes"):
        deliver.apply(Path(), BACKDOORED, Path("repaired"))
