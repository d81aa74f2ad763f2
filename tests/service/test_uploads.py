"""Uploads in parts, against a running server."""

import hashlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.service.conftest import Server, until

DATA = bytes(range(256)) * 20_000  # 5 MB
SIZE = 1_000_000
PARTS = [DATA[at : at + SIZE] for at in range(0, len(DATA), SIZE)]


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def begun(client: httpx2.Client, data: bytes = DATA, **other: Any) -> str:
    asked = {"kind": "model", "digest": digest(data), "size": len(data), "name": "m.safetensors"} | other
    answer = client.post("/v1/uploads", json=asked)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def put(client: httpx2.Client, upload: str, number: int, data: bytes, **query: str) -> httpx2.Response:
    return client.put(f"/v1/uploads/{upload}/parts/{number}", content=data, params=query)


def test_parts_in_any_order_and_twice_become_one_artifact(client: httpx2.Client) -> None:
    upload = begun(client)
    for number in (3, 1, 6, 2, 3, 5):
        part = put(client, upload, number, PARTS[number - 1], digest=digest(PARTS[number - 1]))
        assert part.json() == {
            "number": number, "size": len(PARTS[number - 1]), "digest": digest(PARTS[number - 1]),
        }  # fmt: skip
    early = client.post(f"/v1/uploads/{upload}:complete")
    assert (early.status_code, early.json()["code"]) == (409, "upload.incomplete")
    there = client.get(f"/v1/uploads/{upload}").json()
    assert [part["number"] for part in there["parts"]] == [1, 2, 3, 5, 6]
    put(client, upload, 4, b"another file's part")
    assert client.post(f"/v1/uploads/{upload}:complete").json()["code"] == "upload.incomplete"
    put(client, upload, 4, PARTS[3])
    for _ in range(2):  # the first answer may have been lost
        answer = client.post(f"/v1/uploads/{upload}:complete")
        assert (answer.status_code, answer.json()["digest"]) == (201, digest(DATA))
    late = put(client, upload, 1, PARTS[0])
    assert (late.status_code, late.json()["code"]) == (409, "upload.completed")
    inputs = {"model": {"digest": digest(DATA)}, "samples": {"digest": digest(DATA)}}
    job = client.post("/v1/jobs", json={"inputs": inputs}).json()
    assert job["inputs"][0]["size"] == len(DATA)
    client.post(f"/v1/jobs/{job['id']}:cancel")


@pytest.mark.parametrize(
    ("number", "data", "query", "status", "code"),
    [
        (1, b"", {}, 422, "upload.empty_part"),
        (1, b"x" * 101, {}, 413, "request.too_large"),
        (0, b"x", {}, 422, "request.invalid"),
        (10_001, b"x", {}, 422, "upload.parts"),
        (1, b"x", {"digest": digest(b"y")}, 422, "artifact.digest_mismatch"),
        (1, b"x", {"colour": "red"}, 422, "request.invalid"),
    ],
)
def test_a_bad_part_is_refused(
    client: httpx2.Client, number: int, data: bytes, query: dict[str, str], status: int, code: str
) -> None:
    upload = begun(client, b"x" * 100)
    answer = put(client, upload, number, data, **query)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert client.get(f"/v1/uploads/{upload}").json()["parts"] == []
    assert client.delete(f"/v1/uploads/{upload}").status_code == 204
    assert client.get(f"/v1/uploads/{upload}").json()["code"] == "upload.unknown"


def test_more_than_was_promised_or_another_file_is_refused(client: httpx2.Client) -> None:
    upload = begun(client, b"x" * 100)
    assert put(client, upload, 1, b"y" * 60).status_code == 200
    over = put(client, upload, 2, b"y" * 41)
    assert (over.status_code, over.json()["code"]) == (413, "request.too_large")
    assert put(client, upload, 2, b"y" * 40).status_code == 200
    wrong = client.post(f"/v1/uploads/{upload}:complete")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "artifact.digest_mismatch")
    client.delete(f"/v1/uploads/{upload}")


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"size": -1}, 422, "request.invalid"),
        ({"size": 2**40}, 413, "request.too_large"),
        ({"kind": "report"}, 422, "request.invalid"),
        ({"colour": "red"}, 422, "request.invalid"),
    ],
)
def test_a_bad_promise_is_refused(
    client: httpx2.Client, changed: dict[str, Any], status: int, code: str
) -> None:
    asked = {"kind": "model", "digest": digest(DATA), "size": 10} | changed
    answer = client.post("/v1/uploads", json=asked)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_what_is_abandoned_is_swept(own_server: Server) -> None:
    own_server.variables["LIMITS__UPLOAD_HOURS"] = str(3 / 3600)
    own_server.variables["LIMITS__MAX_UPLOADS"] = "1"
    own_server.start()

    def stored() -> list[Path]:
        return [path for path in (own_server.home / "blobs").iterdir() if path.name != ".staged"]

    with httpx2.Client(base_url=own_server.url) as client:
        upload = begun(client)
        second = client.post("/v1/uploads", json={"kind": "model", "digest": digest(b"x"), "size": 1})
        assert (second.status_code, second.json()["code"]) == (409, "upload.too_many")
        assert put(client, upload, 1, PARTS[0]).status_code == 200
        assert stored()
        until(lambda: not stored(), 20)
        assert client.get(f"/v1/uploads/{upload}").json()["code"] == "upload.unknown"
        begun(client)
