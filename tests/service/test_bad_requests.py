"""Whatever is wrong with a request, the answer is a problem, and nothing is stored."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service.conftest import Server, until

Send = Callable[[httpx2.Client], httpx2.Response]
FORM = {"model": ("m", b"m"), "samples": ("s", b"s")}
UNKNOWN = {"digest": f"sha256:{'0' * 64}"}


def form(body: str) -> Send:
    headers = {"Content-Type": "multipart/form-data; boundary=edge"}
    return lambda client: client.post(
        "/v1/jobs", content=body.replace("\n", "\r\n").encode(), headers=headers
    )


def post(**content: Any) -> Send:
    return lambda client: client.post("/v1/jobs", **content)


def put(body: bytes = b"x", **query: str) -> Send:
    return lambda client: client.put("/v1/artifacts", params=query, content=body)


def get(path: str, **content: Any) -> Send:
    return lambda client: client.get(path, **content)


PART = '--edge\nContent-Disposition: form-data; name="{}"; filename="f"\n\nbytes\n'
SINS: dict[str, tuple[Send, int, str]] = {
    "no such route": (get("/v2"), 404, "route.unknown"),
    "no such job": (get("/v1/jobs/job_1"), 404, "job.unknown"),
    "no such method": (lambda client: client.patch("/v1/jobs"), 405, "request.method_not_allowed"),
    "unknown query": (get("/v1/jobs?colour=red"), 422, "request.invalid"),
    "unknown state": (get("/v1/jobs?state=asleep"), 422, "request.invalid"),
    "forged token": (get("/v1/jobs?page_token=e30"), 422, "request.page_token"),
    "token of text": (get("/v1/jobs?page_token=%ff"), 422, "request.page_token"),
    "no body": (post(), 415, "request.unsupported_media_type"),
    "text": (post(content=b"hello", headers={"Content-Type": "text/plain"}), 415, "request.unsupported_media_type"),
    "broken json": (post(content=b"{", headers={"Content-Type": "application/json"}), 422, "request.invalid"),
    "unknown field": (post(json={"inputs": {}, "color": 1}), 422, "request.invalid"),
    "long json": (post(content=b" " * 70_000, headers={"Content-Type": "application/json"}), 413, "request.too_large"),
    "never uploaded": (post(json={"inputs": {"model": UNKNOWN, "samples": UNKNOWN}}), 422, "artifact.unknown"),
    "path as digest": (
        post(json={"inputs": {"model": {"digest": "sha256:../.."}, "samples": UNKNOWN}}), 422, "request.invalid",
    ),
    "path as name": (
        post(json={"inputs": {"model": UNKNOWN | {"name": "../x"}, "samples": UNKNOWN}}), 422, "request.invalid",
    ),
    "form without samples": (post(files={"model": b"m"}), 422, "request.form"),
    "form with more": (post(files=FORM | {"virus": b"v"}), 422, "request.form"),
    "form with a name beyond Latin": (form(PART.format("\U000a9ed9 6")), 422, "request.form"),
    "form with a model twice": (post(files=[("model", b"m"), ("model", b"m")]), 422, "request.form"),
    "form with bad options": (post(files=FORM, data={"options": '{"seed": -1}'}), 422, "request.invalid"),
    "form with long options": (post(files=FORM, data={"options": " " * 70_000}), 413, "request.too_large"),
    "form with a target of nothing": (post(files=FORM, data={"triggered_target": "1"}), 422, "request.form"),
    "form with a bad target": (post(files=FORM, data={"triggered_target": '1, "x": 2'}), 422, "request.invalid"),
    "target of nothing": (
        post(json={"inputs": {"model": UNKNOWN, "samples": UNKNOWN}, "triggered_target": 1}), 422, "request.invalid",
    ),
    "screening of nothing": (
        post(json={"kind": "screen", "inputs": {"model": UNKNOWN, "samples": UNKNOWN}}), 422, "request.invalid",
    ),
    "suspects of no screening": (
        post(json={"inputs": {"model": UNKNOWN, "samples": UNKNOWN, "suspects": UNKNOWN}}), 422, "request.invalid",
    ),
    "screening that evaluates": (
        post(json={"kind": "screen", "inputs": dict.fromkeys(("model", "samples", "suspects", "triggered"), UNKNOWN)}),
        422, "request.invalid",
    ),
    "form that screens nothing": (post(files=FORM, data={"kind": "screen"}), 422, "request.form"),
    "form with suspects and no screening": (post(files=FORM | {"suspects": b"s"}), 422, "request.form"),
    "form that screens and evaluates": (
        post(files=FORM | {"suspects": b"s", "triggered": b"t"}, data={"kind": "screen"}), 422, "request.form",
    ),
    "form that screens with a target": (
        post(files=FORM | {"suspects": b"s"}, data={"kind": "screen", "triggered_target": "1"}), 422, "request.form",
    ),
    "form of no kind": (post(files=FORM, data={"kind": "destroy"}), 422, "request.invalid"),
    "form without boundary": (
        post(content=b"x", headers={"Content-Type": "multipart/form-data"}), 400, "request.form",
    ),
    "form cut off": (form(PART.format("model") + PART.format("samples")), 400, "request.form"),
    "form of noise": (form("no boundary at all"), 400, "request.form"),
    "model too large": (put(b"x" * 2_000_001, kind="model"), 413, "request.too_large"),
    "form too large": (post(files=FORM | {"model": b"x" * 2_000_001}), 413, "request.too_large"),
    "unknown kind": (put(kind="virus"), 422, "request.invalid"),
    "made, not uploaded": (put(kind="report"), 422, "request.invalid"),
    "damaged": (put(kind="model", digest=UNKNOWN["digest"]), 422, "artifact.digest_mismatch"),
    "another host": (get("/v1/jobs", headers={"Host": "evil.example"}), 403, "access.host"),
    "another site": (post(files=FORM, headers={"Origin": "https://evil.example"}), 403, "access.origin"),
    "empty key": (post(files=FORM, headers={"Idempotency-Key": ""}), 422, "request.invalid"),
}  # fmt: skip


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that takes 2 MB and waits for half a second."""
    limits = {"LIMITS__MAX_MODEL_BYTES": "2000000", "LIMITS__IDLE_S": "0.5"}
    serving = Server(tmp_path_factory.mktemp("strict"), limits).start()
    yield serving
    assert serving.stop() == 0
    assert "Traceback" not in serving.log()
    assert [path for path in (serving.home / "blobs").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("send", "status", "code"), SINS.values(), ids=SINS)
def test_a_bad_request_is_a_problem(strict: Server, send: Send, status: int, code: str) -> None:
    with httpx2.Client(base_url=strict.url, timeout=10) as client:
        answer = send(client)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (status, code), problem
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["status"] == status
        assert problem["detail"]
        assert problem["remedy"]
        assert problem["trace_id"] == answer.headers["x-request-id"]
        assert client.get("/v1/jobs").json() == {"jobs": [], "next_page_token": None}


def test_405_names_everything_that_the_path_takes(strict: Server) -> None:
    answer = httpx2.patch(f"{strict.url}/v1/jobs")
    assert answer.headers["allow"] == "GET, POST"


HALF = b"PUT /v1/artifacts?kind=model HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"


def staged(server: Server) -> list[Path]:
    return list((server.home / "blobs" / ".staged").iterdir())


def test_a_body_that_pauses_is_refused_and_forgotten(strict: Server) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), timeout=10) as slow:
        slow.sendall(HALF)
        answer = slow.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert staged(strict) == []


def test_a_client_that_goes_away_leaves_nothing(strict: Server) -> None:
    with socket.create_connection(("127.0.0.1", strict.port), timeout=10) as gone:
        gone.sendall(HALF)
        assert until(lambda: staged(strict), 5)
    assert until(lambda: not staged(strict), 5)


def test_a_wrong_setting_is_refused_before_anything_starts(sanitizer_command: Any) -> None:
    done = sanitizer_command(["serve", "--host", "192.0.2.1"])
    assert done.code == 4
    assert "settings.invalid" in done.err
    assert "auth is off" in done.err
    assert "Traceback" not in done.err
