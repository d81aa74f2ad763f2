"""The supervisor's side of a child: what uses up too much is ended, and it is known for what."""

from pathlib import Path

from worker.cage.policy import Limits, policy
from worker.cage.start import Breach
from worker.supervision.child import Child


def test_a_child_whose_folder_grows_too_large_is_ended(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    with Child(tmp_path, policy((tmp_path,), limits=Limits(folder_bytes=50_000)), grace_s=5) as child:
        assert list(child.messages()) == []
        assert child.breach is Breach.FOLDER
        assert "SIGKILL" in child.fate()


def test_a_cage_that_cannot_be_closed_is_a_problem_and_nothing_was_opened(tmp_path: Path) -> None:
    """A folder that is not there cannot be written to, so no attempt can be made in it."""
    with Child(tmp_path, policy((tmp_path / "nowhere",)), grace_s=5) as child:
        assert set(child.messages()) <= {None}  # silence, however long it took to end
        child.fate()
        problem = child.unconfined()
    assert problem is not None
    assert problem.code == "confinement.missing"
    assert problem.remedy
