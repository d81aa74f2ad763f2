"""API keys in the ledger: what opens, what does not, and what is kept; on both databases."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from app.contract.key import ApiKey, Scope
from app.errors import CredentialsError, SettingsError, UnknownError
from app.ledger import keys, pepper
from app.ledger.database import Database
from app.ledger.keys import ALPHABET, Caller
from app.ledger.tables import keys as keys_table
from app.settings import Settings
from tests.ledger.asking import ALICE, BOB

PEPPER = b"p" * 32


def make(ledger: Database, tenant: str = ALICE, expires_s: float | None = None) -> tuple[str, ApiKey]:
    with ledger.write() as tx:
        return keys.create(tx, tenant, "ci", [Scope.SUBMIT, Scope.READ], PEPPER, expires_s=expires_s)


def authenticate(ledger: Database, text: str, secret: bytes = PEPPER) -> Caller:
    with ledger.read() as tx:
        return keys.authenticate(tx, text, secret)


def refused(ledger: Database, text: str, secret: bytes = PEPPER) -> str:
    with pytest.raises(CredentialsError) as error:
        authenticate(ledger, text, secret)
    assert error.value.status == 401
    return error.value.code


def test_a_key_opens_for_its_tenant_and_scopes(ledger: Database) -> None:
    text, key = make(ledger)
    assert (key.tenant, key.scopes, key.active) == (ALICE, (Scope.READ, Scope.SUBMIT), True)
    caller = authenticate(ledger, text)
    assert caller == Caller(key.id, ALICE, frozenset({Scope.READ, Scope.SUBMIT}), stale=True)
    assert len({make(ledger)[0] for _ in range(20)}) == 20


def test_a_key_is_nowhere_in_the_ledger(ledger: Database) -> None:
    text, key = make(ledger)
    with ledger.read() as tx:
        (row,) = tx.execute(sa.select(keys_table)).all()
    assert row.id == key.id
    assert not any(text.split("_")[2] in str(value) for value in row)
    assert refused(ledger, text, b"another pepper, of thirty-two bytes") == "access.key_unknown"


def test_every_single_typo_is_told_from_an_unknown_key(ledger: Database) -> None:
    text, _ = make(ledger)
    start = len("sanitizer_")
    typos = [
        text[:at] + ALPHABET[(ALPHABET.index(text[at]) + 1) % 62] + text[at + 1 :]
        for at in range(start, len(text))
        if text[at] != "_"
    ]
    for typo in (*typos, text[:-1], text + "0", text.upper(), "", "Bearer", text.replace("_", "-")):
        assert refused(ledger, typo) == "access.key_malformed", typo


def test_a_key_of_nobody_is_unknown_though_well_formed(ledger: Database) -> None:
    text, key = make(ledger)
    with ledger.write() as tx:
        tx.execute(sa.delete(keys_table).where(keys_table.c.id == key.id))
    assert refused(ledger, text) == "access.key_unknown"


def test_a_revoked_key_opens_nothing_from_the_next_call_on(ledger: Database) -> None:
    text, key = make(ledger)
    with ledger.write() as tx:
        first = keys.revoke(tx, key.id)
    with ledger.write() as tx:
        assert keys.revoke(tx, key.id) == first
    assert not first.active
    assert refused(ledger, text) == "access.key_revoked"
    with pytest.raises(UnknownError), ledger.write() as tx:
        keys.revoke(tx, "nobody")


def test_an_expired_key_opens_nothing(ledger: Database) -> None:
    text, key = make(ledger, expires_s=-1)
    assert not key.active
    assert refused(ledger, text) == "access.key_expired"
    authenticate(ledger, make(ledger, expires_s=60)[0])


def test_the_last_use_is_kept_and_not_written_on_every_call(ledger: Database) -> None:
    text, key = make(ledger)
    assert key.used_at is None
    with ledger.write() as tx:
        keys.used(tx, key.id)
        assert keys.everyone(tx)[0].used_at is not None
    assert not authenticate(ledger, text).stale


def test_keys_are_listed_the_oldest_first_and_by_tenant(ledger: Database) -> None:
    first, second, other = (make(ledger, tenant)[1] for tenant in (ALICE, ALICE, BOB))
    with ledger.read() as tx:
        assert {key.id for key in keys.everyone(tx)} == {first.id, second.id, other.id}
        assert [key.id for key in keys.everyone(tx, BOB)] == [other.id]


def test_the_pepper_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    made = pepper.read(settings)
    assert len(made) >= 32
    assert pepper.read(settings) == made
    assert settings.pepper_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in settings.home.iterdir()] == ["pepper"]
    assert pepper.read(Settings(home=tmp_path, pepper="x" * 32)) == b"x" * 32
    assert "x" * 32 not in repr(Settings(home=tmp_path, pepper="x" * 32))
    settings.pepper_file.write_text("short")
    with pytest.raises(SettingsError, match="too short"):
        pepper.read(settings)
