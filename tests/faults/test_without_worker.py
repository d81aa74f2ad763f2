"""A machine with the app alone: the worker's packages are missing, and every command still answers."""

import subprocess
import sys
import textwrap

WITHOUT_TORCH = textwrap.dedent(
    """
    import sys

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "torch":
                raise ModuleNotFoundError(f"No module named {name!r}", name="torch")

    sys.meta_path.insert(0, Missing())
    from app.cli.main import run
    sys.exit(run(sys.argv[1:]))
    """
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], capture_output=True, text=True, check=False
    )


def test_a_command_of_the_worker_says_what_to_install() -> None:
    done = run("sanitize", "model.safetensors", "--samples", "x", "--out", "y")
    assert done.returncode == 2
    assert "install.incomplete" in done.stderr
    assert "pip install 'model-sanitizer[worker]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_the_apps_own_commands_work() -> None:
    assert run("--help").returncode == 0
    done = run("serve", "--help")
    assert done.returncode == 0
    assert "Serve the HTTP API" in done.stdout
