"""Every operation of the document, for everybody who may call it and everybody who may not.

The rows are held against the document: an operation without a row fails, and so does a row without an operation.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.contract.key import Scope
from app.ledger import keys, pepper, tenants
from app.ledger.database import Database
from app.main import create_app
from app.settings import Settings
from tests.conftest import sanitizer
from tests.service.conftest import Server

JOB = "/v1/jobs/{job_id}"
UPLOAD = "/v1/uploads/{upload_id}"
UNKNOWN = f"job_{'0' * 32}"
ANNOUNCED = {"kind": "model", "size": 1, "digest": f"sha256:{hashlib.sha256(b'x').hexdigest()}"}
OWNER, OTHER, TIGHT, BUSY = "acme", "globex", "tight", "busy"


@dataclass(frozen=True)
class Row:
    """How an operation is called, what its owner is answered, and what a key of another tenant meets."""

    owner: int
    other: int
    job: str = "done"
    content: dict[str, Any] = field(default_factory=dict)


ROWS = {
    ("get", "/livez"): None,  # None: everybody may
    ("get", "/readyz"): None,
    ("get", "/v1/limits"): None,
    ("get", "/v1/capabilities"): None,
    ("get", "/metrics"): None,
    ("get", f"{JOB}/report.sarif"): Row(200, 404),
    ("get", f"{JOB}/best-candidate"): Row(409, 404),  # the job that is done had nothing to repair
    ("head", f"{JOB}/best-candidate"): Row(409, 404),
    ("get", f"{JOB}/statement"): Row(200, 404),
    ("get", f"{JOB}/statement.sigstore"): Row(409, 404),  # this server has no key to sign with
    ("get", f"{JOB}/mlbom"): Row(200, 404),
    ("post", "/v1/jobs"): Row(202, 422),
    ("get", "/v1/jobs"): Row(200, 200),
    ("get", "/v1/usage"): Row(200, 200),
    ("put", "/v1/artifacts"): Row(201, 201, content={"params": {"kind": "model"}, "content": b"x"}),
    ("get", JOB): Row(200, 404),
    ("delete", JOB): Row(204, 404, job="spare"),
    ("post", f"{JOB}:cancel"): Row(202, 404),
    ("post", f"{JOB}:rerun"): Row(202, 404),
    ("get", f"{JOB}/events"): Row(200, 404),
    ("post", "/v1/uploads"): Row(201, 201, content={"json": ANNOUNCED}),
    ("get", UPLOAD): Row(200, 404, job="upload"),
    ("delete", UPLOAD): Row(204, 404, job="spare upload"),
    ("put", f"{UPLOAD}/parts/{{number}}"): Row(200, 404, job="upload", content={"content": b"x"}),
    ("post", f"{UPLOAD}:complete"): Row(201, 404, job="upload"),
    ("get", f"{JOB}/report"): Row(200, 404),
    ("get", f"{JOB}/report.html"): Row(200, 404),
    ("get", f"{JOB}/report.md"): Row(200, 404),
    ("get", f"{JOB}/model"): Row(200, 404),
    ("head", f"{JOB}/model"): Row(200, 404),
    ("get", f"{JOB}/changes"): Row(200, 404),
    ("head", f"{JOB}/changes"): Row(200, 404),
    ("get", f"{JOB}/contact-sheet"): Row(409, 404),  # the job that is done screened nothing
    ("head", f"{JOB}/contact-sheet"): Row(409, 404),
}
DOCUMENT = create_app(Settings(auth="keys")).openapi()
OPERATIONS = [
    (method, path) for path, operations in DOCUMENT["paths"].items() for method in operations
]  # what is tested comes from here, and only how from the rows
LOCKED = [operation for operation in OPERATIONS if ROWS.get(operation, True) is not None]


@dataclass
class House:
    """A server with keys; a job that is done, one that was canceled, and everybody's keys."""

    server: Server
    database: Database
    secret: bytes
    keys: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)

    def add(self, who: str, tenant: str, *scopes: Scope, **shares: int) -> str:
        with self.database.write() as tx:
            tenants.ensure(tx, tenant)
            tenants.limit(tx, tenant, dict(shares))
            self.keys[who], made = keys.create(tx, tenant, who, scopes or Scope, self.secret)
        return made.id

    def client(self, who: str | None) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.keys[who]}"} if who else {}
        return httpx2.Client(base_url=self.server.url, timeout=60, headers=headers)

    def call(self, who: str | None, operation: tuple[str, str], job: str | None = None) -> httpx2.Response:
        row = ROWS.get(operation)
        assert row is not None, f"{operation} needs a row"
        content = {"json": {"inputs": self.inputs}} if operation == ("post", "/v1/jobs") else row.content
        place = operation[1].replace("{upload_id}", "{job_id}").replace("{number}", "1")
        path = place.replace("{job_id}", job or self.jobs[row.job])
        with self.client(who) as client:
            return client.request(operation[0].upper(), path, **content)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("keys")
    server = Server(home, {"AUTH": "keys", "LIMITS__READ_RATE": "1000/hour", "CLOCKS__DRAIN_S": "0"}).start()
    settings = Settings(home=home, auth="keys")
    house = House(server, Database(settings.database), pepper.read(settings))
    try:
        house.add(OWNER, OWNER)
        house.add(OTHER, OTHER)
        for scope in Scope:
            house.add(scope, OWNER, scope)
        revoked = house.add("revoked", OWNER)
        with house.client(OWNER) as client:
            done = server.ended(client, server.create(client)["id"])
            house.inputs = {item["kind"]: {"digest": item["digest"]} for item in done["inputs"]}
            house.add("later", OWNER, max_running=0)  # what the tests submit from here on shall only wait
            spare = client.post("/v1/jobs", json={"inputs": house.inputs}).json()["id"]
            client.post(f"/v1/jobs/{spare}:cancel")
            uploads = [client.post("/v1/uploads", json=ANNOUNCED).json()["id"] for _ in range(2)]
        house.jobs = {"done": done["id"], "spare": spare, "upload": uploads[0], "spare upload": uploads[1]}
        with house.database.write() as tx:
            keys.revoke(tx, revoked)
        yield house
    finally:
        house.database.close()
        assert server.stop() == 0
    assert "Traceback" not in server.log()
    assert not any(key in server.log() for key in house.keys.values())


def test_every_operation_has_a_row_and_every_row_an_operation() -> None:
    assert set(OPERATIONS) == set(ROWS)


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_the_document_says_who_may(operation: tuple[str, str]) -> None:
    method, path = operation
    told = DOCUMENT["paths"][path][method].get("security")
    assert told == (None if operation not in LOCKED else [{"key": [Scope.of(method).value]}])


@pytest.mark.parametrize("operation", LOCKED, ids=" ".join)
@pytest.mark.parametrize("who", [None, "revoked"])
def test_nobody_without_a_good_key(house: House, operation: tuple[str, str], who: str | None) -> None:
    answer = house.call(who, operation)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    if operation[0] != "head":
        assert answer.json()["code"] == ("access.key_revoked" if who else "access.key_missing")


@pytest.mark.parametrize("operation", LOCKED, ids=" ".join)
def test_nobody_without_the_scope(house: House, operation: tuple[str, str]) -> None:
    for scope in set(Scope) - {Scope.of(operation[0])}:
        answer = house.call(scope, operation)
        assert answer.status_code == 403
        if operation[0] != "head":
            assert answer.json()["code"] == "access.scope"


@pytest.mark.parametrize("operation", LOCKED, ids=" ".join)
def test_another_tenants_things_are_as_unknown_as_none(house: House, operation: tuple[str, str]) -> None:
    answer = house.call(OTHER, operation)
    row = ROWS[operation]
    assert row is not None
    assert answer.status_code == row.other, answer.text
    if "{job_id}" in operation[1] or "{upload_id}" in operation[1]:
        job = house.jobs[row.job]
        nothing = house.call(OTHER, operation, UNKNOWN)
        assert nothing.status_code == answer.status_code
        assert told(answer, job) == told(nothing, UNKNOWN)
    else:
        assert house.jobs["done"] not in answer.text
    if operation == ("post", "/v1/jobs"):
        assert answer.json()["code"] == "artifact.unknown"


@pytest.mark.parametrize("operation", LOCKED, ids=" ".join)
def test_the_owner_may(house: House, operation: tuple[str, str]) -> None:
    row = ROWS[operation]
    assert row is not None
    answer = house.call(OWNER, operation)
    assert answer.status_code == row.owner, answer.text
    assert answer.headers["ratelimit"].startswith(f'"{Scope.of(operation[0])}";r=')
    if operation[0] != "delete":  # which left the spare job as a tombstone
        assert house.call(Scope.of(operation[0]), operation).status_code == row.owner


@pytest.mark.parametrize("operation", [row for row in OPERATIONS if row not in LOCKED], ids=" ".join)
def test_what_is_public_needs_no_key(house: House, operation: tuple[str, str]) -> None:
    with house.client(None) as client:
        assert client.request(operation[0].upper(), operation[1]).status_code == 200


@pytest.mark.parametrize(
    "shown",
    ["Basic YTpi", "Bearer", "Bearer x", "Bearer sanitizer_a_b_c", "Bearer \u00e9", "Bearer " + "a" * 4000],
)
def test_what_is_no_key_opens_nothing(house: House, shown: str) -> None:
    answer = httpx2.get(f"{house.server.url}/v1/jobs", headers={"Authorization": shown.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.json()["code"] in ("access.key_missing", "access.key_malformed")


def test_two_parallel_jobs_for_the_last_place(house: House) -> None:
    house.add(TIGHT, TIGHT, max_queued=1, max_running=0, max_bytes=4_000_000)
    with house.client(TIGHT) as client:
        house.server.create(client)

        def post(_: int) -> httpx2.Response:
            with house.client(TIGHT) as racer:
                return racer.post("/v1/jobs", json={"inputs": house.inputs})

        (job,) = client.get("/v1/jobs").json()["jobs"]
        client.post(f"/v1/jobs/{job['id']}:cancel")
        with ThreadPoolExecutor(2) as racers:
            answers = sorted(racers.map(post, range(2)), key=lambda answer: answer.status_code)
        assert [answer.status_code for answer in answers] == [202, 429]
        assert answers[1].json()["code"] == "quota.queued"
        assert int(answers[1].headers["retry-after"]) > 0
        full = client.put("/v1/artifacts", params={"kind": "model"}, content=b"x" * 3_000_000)
        assert (full.status_code, full.json()["code"]) == (413, "quota.bytes")


def test_too_many_calls_wait_and_disturb_nobody_else(house: House) -> None:
    house.add(BUSY, BUSY)
    with house.client(BUSY) as client:
        left = [client.get("/v1/jobs") for _ in range(1000)][-1]
        assert (left.status_code, left.headers["ratelimit-policy"]) == (200, '"read";q=1000;w=3600')
        assert left.headers["ratelimit"].startswith('"read";r=0;t=')
        limited = client.get("/v1/jobs")
        assert (limited.status_code, limited.json()["code"]) == (429, "rate.limited")
        assert 0 < int(limited.headers["retry-after"]) <= 3600
        assert client.put("/v1/artifacts", params={"kind": "model"}, content=b"x").status_code == 201
    with house.client(OTHER) as client:
        assert client.get("/v1/jobs").status_code == 200


def test_the_command_makes_lists_and_revokes_keys(house: House, tmp_path: Path) -> None:
    at = ("--home", house.server.home)
    made = sanitizer(["keys", "create", "ci", "--tenant", "initech", "--scope", "read", *at], tmp_path)
    key = made.out.strip()
    assert (made.code, key.count("\n"), key.startswith("sanitizer_")) == (0, 0, True), made.err
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx2.get(f"{house.server.url}/v1/jobs", headers=headers).json()["jobs"] == []

    listed = sanitizer(["keys", "list", "--tenant", "initech", "--json", *at], tmp_path)
    assert key not in listed.out
    assert '"used_at": "2' in listed.out
    key_id = key.split("_")[1]
    assert sanitizer(["keys", "revoke", key_id, *at], tmp_path).code == 0
    refused = httpx2.get(f"{house.server.url}/v1/jobs", headers=headers)
    assert refused.json()["code"] == "access.key_revoked"

    limited = sanitizer(["tenants", "limit", "initech", "--queued", "5", "--bytes", "none", *at], tmp_path)
    assert "max_queued 5, max_running none, max_bytes none" in limited.out
    assert "0 of 5" in sanitizer(["tenants", "list", *at], tmp_path).out
    for wrong in (
        ["keys", "create", "ci", "--tenant", "../x"],
        ["keys", "create", " "],
        ["tenants", "limit", "initech", "--queued", "-1"],
    ):
        done = sanitizer([*wrong, *at], tmp_path)
        assert (done.code, "options.invalid" in done.err) == (4, True), done.err
    assert sanitizer(["keys", "revoke", "nobody", *at], tmp_path).code == 2


def told(answer: httpx2.Response, job: str) -> dict[str, Any]:
    """The problem, without what differs between any two requests."""
    if not answer.content:
        return {}
    problem: dict[str, Any] = answer.json()
    del problem["trace_id"]
    return {name: str(value).replace(job, "ID") for name, value in problem.items()}
