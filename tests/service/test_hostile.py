"""The corpus sampled over HTTP: hostile files reach a running service, and nothing but their own job ends."""

import os
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
import torch
from safetensors.torch import save

from app.contract.confinement import Level
from app.contract.report import Report
from tests.conftest import BACKDOORED
from tests.hostile.interface import ACCEPTED, Kind, Row
from tests.hostile.reading import CLASSES, PIXELS
from tests.hostile.table import rows
from tests.service.conftest import IMPATIENT, Server, few_samples, until
from worker.formats.architectures.resnet import BasicBlock, ResNet

SMALL = 1 << 20  # bytes; larger ones are read in the cage, where they need not be uploaded
WHOLE = "WHOLE_CORPUS" in os.environ  # every row, which takes minutes


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("hostile")
    server = Server(
        home,
        {f"CLOCKS__{name}": value for name, value in IMPATIENT.items()}
        | {"SLOTS": "2", "LIMITS__SUBMIT_RATE": "off"},
    )
    yield server.start()
    assert server.stop() == 0
    assert "Traceback" not in server.log()


def sample() -> list[tuple[Row, bytes]]:
    """Of every ten numbers of the corpus and every kind of file, the first row that must be refused; or every row."""
    found: dict[tuple[object, Kind], tuple[Row, bytes]] = {}
    for row in rows():
        if row.kind not in (Kind.CODE, Kind.OPTIONS) and ACCEPTED not in row.answers:
            small = next((data for data in row.make() if 0 < len(data) <= SMALL), None)
            if small is not None:
                place = row.what if WHOLE else int(row.number[:2]) // 10
                found.setdefault((place, row.kind), (row, small))
    return list(found.values())


def small_network() -> bytes:
    """Takes the images of the corpus, and has its two classes."""
    torch.manual_seed(0)
    state = ResNet(BasicBlock, (2, 2, 2, 2), CLASSES, 2).state_dict()
    return save({name: tensor.contiguous() for name, tensor in state.items()})


def submit(client: httpx2.Client, row: Row, data: bytes) -> dict[str, Any]:
    good = ("few.npz", few_samples())
    files = (
        {"model": ("model.safetensors", small_network()), "samples": (f"samples{row.suffix}", data)}
        if row.kind is Kind.SAMPLES
        else {"model": (f"model{row.suffix}", data), "samples": good}
    )
    options = f'{{"input_size": {PIXELS[1]}}}' if row.kind is Kind.SAMPLES else "{}"
    answer = client.post("/v1/jobs", files=files, data={"options": options})
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


@pytest.mark.timeout(600)
def test_every_kind_of_attack_ends_its_own_job_and_nothing_else(serving: Server) -> None:
    assert serving.process is not None
    until((serving.home / "jobs").is_dir)  # the worker is up as well
    before = serving.process.pid, sorted(path.name for path in serving.home.iterdir())
    with httpx2.Client(base_url=serving.url, timeout=60) as client:
        tried = sample()
        assert {row.kind for row, _ in tried} == {Kind.MODEL, Kind.NETWORK, Kind.SAMPLES}
        jobs = [submit(client, row, data) for row, data in tried]
        for (row, _), job in zip(tried, jobs, strict=True):
            ended = serving.ended(client, job["id"], 300)
            assert (ended["state"], ended["attempt"]) == ("failed", 1), (row.what, ended)
            assert ended["problem"]["code"] in row.answers, (row.what, ended["problem"])
        good = serving.ended(client, serving.create(client)["id"])
        assert good["state"] == "succeeded"
        report = Report.model_validate_json(client.get(f"/v1/jobs/{good['id']}/report").content)
        assert client.get(f"/v1/jobs/{good['id']}/model").content == BACKDOORED.read_bytes()
    assert report.environment.confinement.level is Level.FULL
    assert all(layer.enforced for layer in report.environment.confinement.layers)
    assert (serving.process.pid, sorted(path.name for path in serving.home.iterdir())) == before
    assert serving.process.poll() is None


def test_options_that_lie_are_refused_before_anything_is_stored(serving: Server) -> None:
    hostile = [
        data for row in rows() if row.kind is Kind.OPTIONS for data in row.make() if len(data) <= SMALL
    ]
    assert hostile
    with httpx2.Client(base_url=serving.url, timeout=60) as client:
        count = len(client.get("/v1/jobs", params={"page_size": 1000}).json()["jobs"])
        for data in hostile:
            files = {"model": ("m", b"x"), "samples": ("s", b"x"), "options": (None, BytesIO(data))}
            answer = client.post("/v1/jobs", files=files)
            assert answer.status_code in (400, 413, 422), data[:100]
            assert answer.json()["remedy"]
        assert len(client.get("/v1/jobs", params={"page_size": 1000}).json()["jobs"]) == count


def test_a_limit_of_reading_reaches_the_child_that_reads(own_server: Server) -> None:
    own_server.variables["READING__SAMPLES__IMAGES"] = "7"
    own_server.start()
    with httpx2.Client(base_url=own_server.url, timeout=60) as client:
        assert client.get("/v1/limits").json()["reading"]["samples"]["images"] == 7
        job = own_server.ended(client, own_server.create(client)["id"])
    assert (job["state"], job["problem"]["code"]) == ("failed", "samples.too_many")
    assert "7 images" in job["problem"]["detail"]


@pytest.mark.parametrize(
    "name", ["a\r\nFORGED", "\x1b[2JFORGED", "<img onerror=alert(1)>FORGED", "\u202eFORGED"]
)
def test_a_name_forges_no_line_of_the_log(serving: Server, name: str) -> None:
    """In a path, in a query, as a file of a form, and in what becomes of that form's job."""
    with httpx2.Client(base_url=serving.url, timeout=60) as client:
        assert client.get(f"/v1/jobs/{quote(name)}").status_code in (404, 422)
        stored = client.put("/v1/artifacts", params={"kind": "model", "name": name}, content=b"x")
        assert stored.status_code in (201, 422)
        files = {"model": (name, b"x"), "samples": (name, b"x")}
        answer = client.post("/v1/jobs", files=files)
        assert answer.status_code in (202, 422)
        if answer.status_code == 202:
            assert serving.ended(client, answer.json()["id"])["state"] == "failed"
    log = serving.log()
    assert not set(log) & {"\x1b", "\u202e"}
    assert not [line for line in log.splitlines() if line.startswith("FORGED")]
