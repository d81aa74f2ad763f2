"""The compose file and the images, without an engine: their rules are read, their commands are run."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import PREFIX, Settings
from tests.conftest import free_port
from tests.service.conftest import until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
WORDS = re.compile(
    r"\$\{(\w+)(?::?(?:-([^}]*)|\+[^}]*))?\}"
)  # a variable and what stands for it when it is not set


def composed() -> dict[str, Any]:
    """The file as compose reads it where no variable is set."""
    text = WORDS.sub(lambda found: found[2] or "", (ROOT / "docker-compose.yml").read_text())
    read: dict[str, Any] = yaml.safe_load(text)
    return read


FILE = composed()
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = ("api", "worker", "worker-gpu")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"] <= 1024
    assert service["mem_limit"]
    assert all(
        {"noexec", "nosuid", "nodev"} <= set(mount.split(":")[1].split(",")) for mount in service["tmpfs"]
    )
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"
    for volume in service.get("volumes", []):
        source, _, target = volume.rpartition(":")
        assert source in ("", *FILE["volumes"]), "no folder of the host, no socket of the engine"
        assert target.startswith(("/var/lib/", "/data"))


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_is_root(name: str) -> None:
    service = SERVICES[name]
    if name in OURS:
        stage = DOCKERFILE.split(f" AS {service['build']['target']}\n")[1].split("\nFROM ")[0]
        assert "USER 10001:10001" in stage
        assert "user" not in service
    else:
        assert service["user"].split(":")[0] not in ("", "0", "root")
        assert re.search(r":\d", service["image"]), "a version, not whatever is newest"


def test_only_the_api_can_be_reached_and_only_from_this_machine() -> None:
    assert FILE["networks"]["inside"] == {"internal": True}
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["api"]
    assert SERVICES["api"]["ports"] == ["127.0.0.1:8000:8000"]
    assert [name for name, service in SERVICES.items() if service["networks"] != ["inside"]] == ["api"]
    assert SERVICES["api"]["environment"]["SANITIZER_AUTH"] == "keys"


def test_profiles_add_to_what_runs_without_them() -> None:
    plain = {name for name, service in SERVICES.items() if "profiles" not in service}
    assert plain == {"api", "worker", "redis", "postgres"}
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]
    assert "deploy" not in SERVICES["worker"]
    assert SERVICES["s3"]["profiles"] == ["s3"]
    needs = SERVICES["worker"]["depends_on"]
    assert {name for name, need in needs.items() if need.get("required", True)} <= plain
    volumes = {v.partition(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if ":" in v}
    assert volumes == set(FILE["volumes"])


@pytest.mark.parametrize("name", ["api", "worker", "worker-gpu", "s3"])
def test_the_settings_are_those_that_the_service_reads(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = SERVICES[name]["environment"]
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings = Settings(home=tmp_path)
    if name == "s3":
        shared = SERVICES["api"]["environment"]
        assert environment["AWS_ACCESS_KEY_ID"] == shared["SANITIZER_S3__ACCESS_KEY_ID"]
        assert environment["AWS_SECRET_ACCESS_KEY"] == shared["SANITIZER_S3__SECRET_ACCESS_KEY"]
        assert shared["SANITIZER_S3__ENDPOINT"] == "http://s3:8333"
    else:
        assert settings.database == "postgresql+psycopg://sanitizer:sanitizer@postgres/sanitizer"
        assert settings.blobs == "file:///var/lib/blobs"
    if "worker" in name:
        assert settings.clocks.drain_s + settings.clocks.grace_s < 60
        assert SERVICES[name]["stop_grace_period"].startswith("60s")


def test_only_the_api_is_given_the_key_that_signs() -> None:
    assert {name for name, service in SERVICES.items() if "secrets" in service} == {"api"}
    assert {name for name in OURS if "SANITIZER_SIGNING_KEY" in SERVICES[name]["environment"]} == {"api"}
    assert SERVICES["api"]["secrets"] == list(FILE["secrets"])


def test_the_linter_of_dockerfiles_has_nothing_to_say() -> None:
    done = subprocess.run([BIN / "hadolint", ROOT / "docker/Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_of_the_api_installs_no_extra_and_copies_only_what_it_runs() -> None:
    stages = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.DOTALL | re.MULTILINE))
    assert re.findall(r"pip install .*", stages["build-api"]) == ["pip install ."]
    assert "pip install '.[worker]'" in stages["build-worker"]
    assert re.findall(r"COPY --from=(\S+)", stages["api"]) == ["build-api"]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"
    assert all((ROOT / path).exists() for path in kept)
    assert {"app", "worker", "pyproject.toml", "README.md"} <= set(kept)


class Container:
    """The command of an image with the settings of its service, save for the addresses of this machine."""

    def __init__(self, name: str, home: Path, addresses: dict[str, str], path: str = "") -> None:
        settings = dict(SERVICES[name]["environment"])
        settings |= {f"{PREFIX}HOME": str(home)} | addresses
        outside = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        self.environment = outside | settings | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": path}
        self.check = SERVICES[name]["healthcheck"]["test"][1:]
        stage = DOCKERFILE.split(f" AS {SERVICES[name]['build']['target']}\n")[1].split("\nFROM ")[0]
        command = [
            json.loads(re.findall(rf"^{word} (.*)$", stage, re.MULTILINE)[0])
            for word in ("ENTRYPOINT", "CMD")
        ]
        home.mkdir()
        self.log = home / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command[0] + command[1], env=self.environment, cwd=home, stdout=log, stderr=log
            )

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        done = subprocess.run(self.check, env=self.environment, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 0

    def signal_all(self, number: signal.Signals) -> None:
        """To it and to the processes that it has started."""
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), number)
        self.process.send_signal(number)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def addresses(tmp_path: Path, postgres_url: str, redis_url: str) -> dict[str, str]:
    parts = {
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "DATABASE_URL": postgres_url,
        "BROKER_URL": redis_url,
        "BLOBS_URL": f"file://{tmp_path}/blobs",
        "POOL": "nobody",
        "CLOCKS__LOOK_S": "1",
    }
    return {f"{PREFIX}{name}": value for name, value in parts.items()}


@pytest.fixture
def no_tensors(tmp_path: Path) -> str:
    """A folder that makes Python as poor as that of the api's image."""
    folder = tmp_path / "absent"
    folder.mkdir()
    for name in ("torch", "torchvision", "numpy", "sklearn", "PIL", "safetensors", "timm"):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('not installed', name={name!r})\n")
    return str(folder)


def test_the_api_runs_without_tensors_and_its_health_check_knows(
    tmp_path: Path, addresses: dict[str, str], no_tensors: str
) -> None:
    api = Container("api", tmp_path / "api", addresses, no_tensors)
    try:
        until(api.healthy)
    finally:
        assert api.stop() == 0
    done = subprocess.run(api.check, env=api.environment, capture_output=True, text=True)
    assert (done.returncode, "refused" in done.stderr) == (1, True)
    offered = subprocess.run(
        [BIN / "sanitizer", "--help"], env=api.environment, capture_output=True, text=True
    )
    assert offered.returncode == 0
    assert "serve" in offered.stdout
    assert "sanitize " not in offered.stdout


def test_the_worker_runs_and_its_health_check_sees_it_stop(tmp_path: Path, addresses: dict[str, str]) -> None:
    worker = Container("worker", tmp_path / "worker", addresses)
    try:
        until(worker.healthy)
        worker.signal_all(signal.SIGSTOP)
        until(lambda: not worker.healthy())
        worker.signal_all(signal.SIGCONT)
        until(worker.healthy)  # as soon as it has looked at the ledger again
    finally:
        assert worker.stop() == 0
