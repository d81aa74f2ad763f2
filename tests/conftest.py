"""What many tests share: the examples, one full run of the command on a backdoored net, and real servers."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import numpy as np
import psycopg
import pytest
import redis
import torch
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.efficacy.subjects import subject
from benchmarks.zoo.planted import attack_of

EXAMPLES = Path(__file__).parent.parent / "examples"
BACKDOORED = EXAMPLES / "backdoored-resnet18.safetensors"
CLEAN_TWIN = EXAMPLES / "clean-resnet18.safetensors"
SAMPLES = EXAMPLES / "clean-500.zip"
TRIGGERED = EXAMPLES / "triggered-200.npz"
ZOO = Path(__file__).parent.parent / "benchmarks" / "zoo" / "weights"
GIVEN = 40  # clean images of each class; the other ten of the example's carry the trigger


@dataclass(frozen=True)
class Run:
    """One finished command line."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return report


def sanitizer(arguments: Sequence[object], folder: Path) -> Run:
    """The real command in a process of its own."""
    command = [str(Path(sys.executable).parent / "sanitizer"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Run(done.returncode, done.stdout, done.stderr, folder)


@dataclass(frozen=True)
class KeyFiles:
    """A key pair in two PEM files."""

    private: Path
    public: Path


def write_keys(folder: Path, key: ec.EllipticCurvePrivateKey) -> KeyFiles:
    """Make the folder, and both files in it."""
    files = KeyFiles(folder / "key.pem", folder / "key.pub")
    folder.mkdir(exist_ok=True)
    files.private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    files.public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return files


@pytest.fixture(scope="session")
def signing_keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFiles:
    """The key that signs what the tests make."""
    return write_keys(tmp_path_factory.mktemp("keys"), ec.generate_private_key(ec.SECP256R1()))


@dataclass(frozen=True)
class Patched:
    """A backdoored net, clean images, and triggered ones that are none of these."""

    model: Path
    twin: Path  # clean, of the same architecture
    target: int
    samples: Path
    triggered: Path


@pytest.fixture(scope="session")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Patched:
    """A quarter of the example's arithmetic: half as wide, and its images are the example's."""
    folder, net = tmp_path_factory.mktemp("patched"), subject(ZOO / "badnets-first-resnet18w8.json")
    with np.load(SAMPLES.with_suffix(".npz")) as held:
        images, labels = held["images"], held["labels"]
    places = [np.flatnonzero(labels == k) for k in range(10)]
    clean, rest = (np.concatenate([p[part] for p in places]) for part in (slice(GIVEN), slice(GIVEN, None)))
    others = rest[labels[rest] != net.target]
    pixels = torch.from_numpy(images[others]).permute(0, 3, 1, 2)
    assert net.attack is not None
    shown = attack_of(net.attack, net.path).trigger(pixels).permute(0, 2, 3, 1).numpy()
    samples, triggered = folder / "clean.npz", folder / "triggered.npz"
    np.savez(samples, images=images[clean], labels=labels[clean])
    np.savez(triggered, images=shown, labels=labels[others], targets=np.full(len(others), net.target))
    return Patched(net.path, ZOO / "clean-resnet18w8-602.safetensors", net.target, samples, triggered)


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory, signing_keys: KeyFiles, patched: Patched) -> Run:
    """That net, signed, with triggered samples for the evaluation; minutes, so once for all tests."""
    out = tmp_path_factory.mktemp("sanitized")
    given = [
        "--samples",
        patched.samples,
        "--triggered",
        patched.triggered,
        "--signing-key",
        signing_keys.private,
    ]
    return sanitizer(["sanitize", patched.model, *given, "--out", out, "--json"], out)


@pytest.fixture
def sanitizer_command(tmp_path: Path) -> Callable[[Sequence[object]], Run]:
    """Run any command line."""
    return lambda arguments: sanitizer(arguments, tmp_path)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database of our own on the PostgreSQL server of this machine, dropped afterwards."""
    server_url = os.environ.get("TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432")
    name = f"sanitizer_{uuid4().hex[:12]}"
    try:
        server = psycopg.connect(f"{server_url}/postgres", autocommit=True, connect_timeout=3)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL: {error}")
    with server:
        server.execute(f"CREATE DATABASE {name}")
        yield f"{server_url.replace('postgresql', 'postgresql+psycopg')}/{name}"
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The Redis server of this machine; others may use it too."""
    url = os.environ.get("TEST_REDIS", "redis://127.0.0.1:6379/0")
    try:
        redis.Redis.from_url(url).ping()
    except redis.ConnectionError as error:
        pytest.skip(f"no Redis: {error}")
    return url


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def s3_variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings of an S3-compatible server of our own, with an empty bucket."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", url.rpartition(":")[2]]
    with (tmp_path_factory.mktemp("s3") / "log.txt").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert httpx2.put(f"{url}/sanitizer").status_code == 200
                break
            except httpx2.TransportError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield {
            "BLOBS_URL": "s3://sanitizer/blobs",
            "S3__ENDPOINT": url,
            "S3__REGION": "us-east-1",
            "S3__ACCESS_KEY_ID": "test",
            "S3__SECRET_ACCESS_KEY": "test",
        }
    finally:
        server.terminate()
        server.wait(10)
