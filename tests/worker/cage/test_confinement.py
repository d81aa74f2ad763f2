"""What a confined process can and cannot do, asked of real confined processes."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.contract.confinement import LayerName, Level
from app.errors import ConfinementError
from tests.worker.cage.conftest import LIMITS
from worker.cage import kernel, start
from worker.cage.policy import policy
from worker.cage.proof import prove
from worker.cage.start import Ended

LetLoose = Callable[..., Ended]
ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
# Run as any other user: the folder of root's Python is closed to them, so a look-alike of it is mounted open.
AS_ANYBODY = """
set -e
if [ "$(stat -c %a /root)" = 700 ]; then
    mkdir "$1/root"; mount --bind /root "$1/root"; mount -t tmpfs -o mode=755 tmpfs /root
    for inside in "$1"/root/.[!.]* "$1"/root/*; do
        [ -d "$inside" ] || continue
        mkdir "/root/$(basename "$inside")"; mount --bind "$inside" "/root/$(basename "$inside")"
    done
fi
shift; exec "$@"
"""


def told(ended: Ended) -> object:
    assert ended.code == 0, ended
    return json.loads(ended.out)


def test_the_proof_holds_at_every_layer() -> None:
    confinement = prove()
    assert confinement.level is Level.FULL
    assert [layer.name for layer in confinement.layers if layer.enforced] == [
        layer.name for layer in confinement.layers
    ]
    assert {layer.name for layer in confinement.layers} == set(LayerName)
    assert sum(len(layer.denied) for layer in confinement.layers) > 25


def test_outside_the_cage_nothing_that_is_tried_counts_as_denied(tmp_path: Path) -> None:
    """Otherwise the proof would prove nothing."""
    if os.geteuid() != 0:
        pytest.skip("some attempts need root to succeed anywhere")
    script = HERE / "inmates.py"
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, check=True)
    assert {what for what, denied in json.loads(done.stdout).items() if denied} == set()


def test_a_child_sees_nothing_of_its_parent(let_loose: LetLoose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANITIZER_SECRET", "hunter2")
    with (HERE / "conftest.py").open() as file:
        os.set_inheritable(file.fileno(), True)
        found = told(let_loose("surroundings"))
    assert isinstance(found, dict)
    assert "hunter2" not in json.dumps(found)
    assert found["environment"].keys() <= {
        "HOME", "TMPDIR", "LANG", "HF_HUB_OFFLINE", "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "OMP_NUM_THREADS", "LC_CTYPE"
    }  # fmt: skip
    assert found["environment"]["HOME"] == found["folder"]
    assert found["descriptors"] == [0, 1, 2]
    assert found["session"]
    assert found["status"] == {
        "CapEff": "0" * 16, "CapPrm": "0" * 16, "CapBnd": found["status"]["CapBnd"], "NoNewPrivs": "1", "Seccomp": "2"
    }  # fmt: skip
    assert found["level"] == "full"
    assert not found["torch"]


def test_every_listed_call_is_denied(let_loose: LetLoose) -> None:
    answers = told(let_loose("every_denied_call"))
    assert isinstance(answers, dict)
    assert answers.pop("a call of a newer kernel") == errno.ENOSYS
    assert len(answers) > 100
    assert {name for name, answer in answers.items() if answer != errno.EPERM} == set()


def test_a_thread_is_no_way_out(let_loose: LetLoose) -> None:
    assert told(let_loose("a_thread_is_no_way_out")) == ["/etc/passwd", f"/proc/{os.getpid()}/environ"]


def test_there_is_no_way_to_another_program(let_loose: LetLoose) -> None:
    assert told(let_loose("children")) == ["fork", "spawn", "exec", "dropped program"]


def test_torch_computes_with_several_threads(let_loose: LetLoose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = told(let_loose("arithmetic"))
    assert isinstance(found, dict)
    assert found["loss"] > 0
    assert found["threads"] >= 2
    assert found["saved"] == 7
    assert found["files"] == ["weights.pt"]


def test_what_a_job_was_given_can_be_read_and_not_be_written(tmp_path: Path) -> None:
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("theirs")
    bounds = policy((tmp_path / "out",), readable=(HERE, tmp_path), limits=LIMITS)
    ended = start.run("inmates", ("tamper",), tmp_path, bounds)
    assert json.loads(ended.out) == {"in": "PermissionError", "out": "ours"}
    assert (tmp_path / "in" / "file").read_text() == "theirs"


def without(call: int, then: str) -> str:
    """A script in which the kernel answers ENOSYS to one call, as an older one does."""
    return f"""
from worker.cage import kernel, seccomp
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(((0x20, 0, 0, 0), (0x15, 0, 1, {call}), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7FFF0000)))
from app.contract.confinement import Level
from worker.cage.proof import prove
{then}
"""


@pytest.mark.parametrize(("call", "layer"), [(444, "files: missing"), (317, "system_calls: missing")])
def test_a_missing_layer_is_an_error_unless_the_level_is_lowered_by_name(call: int, layer: str) -> None:
    if kernel.MACHINE != "x86_64":
        pytest.skip("the numbers are those of x86-64")
    script = without(call, "print(prove(Level.REDUCED).level)\nprove()")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout == "reduced\n"
    assert "app.errors.ConfinementError" in done.stderr
    assert layer in done.stderr


def test_what_is_missing_is_named_with_a_remedy(tmp_path: Path) -> None:
    """A folder that is not there cannot be written to, so that no attempt can be made in it."""
    bounds = policy((tmp_path / "nowhere",))
    ended = start.run("worker.cage.proof", (), tmp_path, bounds)
    assert ended.code == 71
    problem = json.loads(ended.err)
    assert problem["code"] == ConfinementError.code
    assert "not denied" not in problem["detail"]
    assert "level" in problem["remedy"]


def proven(tmp_path: Path, folder: str, *become: str, namespaces: tuple[str, ...] = ("-m",)) -> str:
    """What became of privileges where every layer held.

    In namespaces of its own, where other users can enter the folder of root's Python.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become others; this whole file ran as an ordinary user instead")
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    script = "from worker.cage.proof import prove; print(prove().model_dump_json())"
    asked = [*become, sys.executable, "-c", script]
    command = ["unshare", *namespaces, "sh", "-c", AS_ANYBODY, "sh", str(tmp_path), *asked]
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path / folder)}
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    layers = json.loads(done.stdout)["layers"]
    assert [layer["name"] for layer in layers if not layer["enforced"]] == []
    (privileges,) = (layer["detail"] for layer in layers if layer["name"] == "privileges")
    told: str = privileges
    return told


def become(user: int) -> tuple[str, ...]:
    return ("setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups")


@pytest.mark.parametrize(
    ("user", "folder", "expected"),
    [(0, "open", "user of its own"), (0, "closed", "user 0"), (65534, "open", "user 65534")],
)
def test_it_holds_for_root_and_for_any_other_user(
    tmp_path: Path, user: int, folder: str, expected: str
) -> None:
    assert proven(tmp_path, folder, *(become(user) if user else ())).startswith(expected)


def test_it_holds_under_what_compose_imposes_on_a_container(tmp_path: Path) -> None:
    """Its namespaces, a read-only root, the user of the images, no capability, no new privileges.

    What a container runtime does besides is its own profile of system calls, which is not here.
    """
    namespaces = ("-m", "-n", "-p", "-i", "-u", "--fork", "--mount-proc")
    read_only = 'mount --bind "$0" "$0"; mount -o remount,bind,ro /; ! touch /seen 2>/dev/null && exec "$@"'
    reduced = ("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
    wrapped = ("sh", "-ec", read_only, str(tmp_path), *become(10001), *reduced)
    assert proven(tmp_path, "open", *wrapped, namespaces=namespaces).startswith("user 10001")
