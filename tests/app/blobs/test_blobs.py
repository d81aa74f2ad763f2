"""What every store promises, on a folder and on an S3-compatible server."""

import hashlib
from pathlib import Path

import pytest

from app.blobs import folder, s3
from app.blobs.choose import open_blobs
from app.blobs.interface import Blobs, Staged
from app.errors import RequestError, SettingsError, StorageError, UnavailableError
from app.settings import S3Settings, Settings
from tests.conftest import free_port

BYTES = bytes(range(256)) * 100


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def stage(blobs: Blobs, data: bytes) -> Staged:
    staging = blobs.stage(len(data))
    for start in range(0, len(data), 1000):
        staging.write(data[start : start + 1000])
    return staging.finish()


def put(blobs: Blobs, data: bytes = BYTES, tenant: str = "a") -> str:
    staged = stage(blobs, data)
    blobs.publish(tenant, staged)
    staged.staging.discard()
    return staged.digest


def missing(blobs: Blobs, name: str, tenant: str = "a") -> bool:
    with pytest.raises(StorageError) as refused:
        list(blobs.read(tenant, name))
    return refused.value.code == "storage.lost"


def test_bytes_come_back_by_their_digest_and_to_their_tenant_alone(blobs: Blobs) -> None:
    blobs.check()
    name = put(blobs)
    assert name == digest(BYTES)
    assert b"".join(blobs.read("a", name)) == BYTES
    assert missing(blobs, name, tenant="b")


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 10), (25_590, None), (7, 8), (5, 5), (100, 20_000), (0, 10**6)]
)
def test_a_range_is_a_slice(blobs: Blobs, start: int, end: int | None) -> None:
    assert b"".join(blobs.read("a", put(blobs), start, end)) == BYTES[start:end]


def test_no_bytes_are_bytes_too(blobs: Blobs) -> None:
    assert list(blobs.read("a", put(blobs, b""))) == []


def test_more_than_one_part_and_more_than_one_piece(blobs: Blobs, tmp_path: Path) -> None:
    data = BYTES * 900  # 23 MB: three parts of an upload
    name = put(blobs, data)
    pieces = list(blobs.read("a", name))
    assert max(map(len, pieces)) < len(data) / 2
    assert b"".join(pieces) == data
    blobs.fetch("a", name, tmp_path / "fetched")
    assert digest((tmp_path / "fetched").read_bytes()) == name
    assert (tmp_path / "fetched").stat().st_mode & 0o777 == 0o400


def test_nothing_is_seen_before_it_is_published_nor_after_it_was_discarded(blobs: Blobs) -> None:
    staged = stage(blobs, BYTES)
    assert missing(blobs, staged.digest)
    staged.staging.discard()
    with pytest.raises(StorageError):
        blobs.publish("a", staged)
    unfinished = blobs.stage(10)
    unfinished.write(b"half")
    unfinished.discard()
    assert missing(blobs, digest(b"half"))


def test_publishing_again_is_fine(blobs: Blobs) -> None:
    staged = stage(blobs, BYTES)
    blobs.publish("a", staged)
    blobs.publish("a", staged)
    staged.staging.discard()
    staged.staging.discard()
    assert b"".join(blobs.read("a", staged.digest)) == BYTES
    assert put(blobs) == staged.digest


def test_too_much_is_refused_while_it_arrives(blobs: Blobs) -> None:
    staging = blobs.stage(10)
    staging.write(b"12345")
    with pytest.raises(RequestError) as refused:
        staging.write(b"123456")
    staging.discard()
    assert (refused.value.status, refused.value.code) == (413, "request.too_large")


def test_what_was_removed_is_gone_and_may_be_removed_again(blobs: Blobs) -> None:
    name = put(blobs)
    blobs.remove("a", name)
    blobs.remove("a", name)
    assert missing(blobs, name)


def test_damaged_bytes_are_not_fetched(blobs: Blobs, tmp_path: Path) -> None:
    honest, other = stage(blobs, BYTES), digest(b"other")
    blobs.publish("a", Staged(other, honest.size, honest.staging))
    with pytest.raises(StorageError) as refused:
        blobs.fetch("a", other, tmp_path / "fetched")
    assert refused.value.code == "storage.corrupt"


def test_the_sweep_takes_only_what_was_left_alone(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh, name = stage(blobs, b"fresh"), put(blobs)
    blobs.sweep()
    blobs.publish("a", fresh)
    left = stage(blobs, b"left")
    for module in (folder, s3):
        monkeypatch.setattr(module, "ABANDONED_S", -10)
    monkeypatch.setattr(s3, "SWEEP_S", 0.0)
    if isinstance(blobs, s3.S3):
        blobs.next_sweep = 0.0
    blobs.sweep()
    with pytest.raises(StorageError):
        blobs.publish("a", left)
    assert b"".join(blobs.read("a", name)) == BYTES
    assert b"".join(blobs.read("a", digest(b"fresh"))) == b"fresh"


def test_a_bucket_that_is_not_there_is_a_wrong_setting(s3_variables: dict[str, str]) -> None:
    there = S3Settings(endpoint=s3_variables["S3__ENDPOINT"], access_key_id="a", secret_access_key="b")  # noqa: S106
    with pytest.raises(SettingsError, match="no bucket 'elsewhere'"):
        open_blobs(Settings(blobs_url="s3://elsewhere/blobs", s3=there))


def test_a_store_that_does_not_answer_is_unavailable_and_not_lost(tmp_path: Path) -> None:
    nowhere = S3Settings(
        endpoint=f"http://127.0.0.1:{free_port()}",
        access_key_id="a",
        secret_access_key="b",  # noqa: S106
    )
    blobs = open_blobs(Settings(blobs_url="s3://sanitizer", s3=nowhere))
    staging = blobs.stage(10)
    staging.write(b"12345")
    with pytest.raises(UnavailableError):
        staging.finish()
    staging.discard()
    with pytest.raises(UnavailableError):
        blobs.fetch("a", digest(BYTES), tmp_path / "fetched")
    with pytest.raises(UnavailableError):
        blobs.check()
