"""The examples of the OpenAPI document, sent as they stand there, in the order of a job's life."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema
import pytest

from app.api.examples import DIGEST, FILE, JOB_ID, UPLOAD_ID
from tests.service.conftest import Server

METHODS = (
    "put",
    "post",
    "get",
    "head",
    "delete",
)  # things are made before they are looked at, and deleted last
Example = tuple[str, str, dict[str, Any], str | None, Any]
LATER = (
    "/model",
    "/changes",
    "/best-candidate",
    "/contact-sheet",
    "/mlbom",
    "/statement",
    "/statement.sigstore",
    "/report",
)  # of jobs that succeeded; these files are no models


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(f"{server.url}/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def examples(document: dict[str, Any]) -> list[Example]:
    found: list[Example] = []
    for method, path, operation in operations(document):
        bodies = operation.get("requestBody", {}).get("content", {None: {}})
        found += [(method, path, operation, media, body.get("example")) for media, body in bodies.items()]
    order = ["/v1/artifacts", "/v1/uploads", "/v1/uploads/{upload_id}/parts/{number}", "/v1/jobs"]
    return sorted(
        found,
        key=lambda e: (e[0] == "delete", order.index(e[1]) if e[1] in order else 9, METHODS.index(e[0])),
    )


def test_every_parameter_that_is_needed_and_every_body_has_an_example(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert "example" in parameter or not parameter["required"], (method, path, parameter["name"])
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert "example" in content, (method, path)
        assert operation["description"], (method, path)


def test_answers_are_examples_of_their_schemas(document: dict[str, Any]) -> None:
    seen = 0
    for method, path, operation in operations(document):
        for answer in operation["responses"].values():
            for content in answer.get("content", {}).values():
                if "example" in content:
                    seen += 1
                    schema = content["schema"] | {"components": document["components"]}
                    jsonschema.validate(content["example"], schema)
                else:
                    assert path.endswith(("/events", "/report")), (method, path)
    assert seen > 50


def test_the_examples_work(client: httpx2.Client, document: dict[str, Any]) -> None:
    ids = {JOB_ID: "", UPLOAD_ID: ""}
    for method, path, operation, media, body in examples(document):
        given = {p["in"] + p["name"]: p.get("example") for p in operation.get("parameters", ())}
        url = path
        for key, value in given.items():
            if key.startswith("path"):
                url = url.replace(f"{{{key[4:]}}}", ids.get(str(value)) or str(value))
        query = {
            key[5:]: value for key, value in given.items() if key.startswith("query") and value is not None
        }
        if "wait" in query:
            query["wait"] = 1
        if method == "delete" and "/jobs/" in url:
            client.post(f"{url}:cancel")
            client.get(url, params={"wait": 25})
        answer = client.request(method, url, params=query, **sent(media, body))
        expected = (
            {409}
            if any(word in path for word in LATER)
            else {int(s) for s in operation["responses"] if s != "default"}
        )
        assert answer.status_code in expected, (method, url, answer.text)
        if (method, path) == ("post", "/v1/jobs"):
            ids[JOB_ID] = answer.json()["id"]
        if (method, path) == ("post", "/v1/uploads"):
            ids[UPLOAD_ID] = answer.json()["id"]


def sent(media: str | None, body: Any) -> dict[str, Any]:
    """The body as a client sends it."""
    match media:
        case "multipart/form-data":
            texts = {"options": body["options"]}
            return {"files": {name: text for name, text in body.items() if name not in texts}, "data": texts}
        case "application/json":
            assert DIGEST in json.dumps(body) or "options" in body
            return {"json": body}
        case "application/octet-stream":
            assert body == FILE
            return {"content": body}
    return {}
