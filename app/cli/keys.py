"""`sanitizer keys` and `sanitizer tenants`: who may call the service, and how much of it is theirs."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer
from pydantic import ValidationError
from rich import box
from rich.console import Console
from rich.table import Table

from app.contract.frozen import Frozen
from app.contract.key import KEY_NAME, ApiKey, Scope
from app.contract.tenant import NEWCOMER, TENANT, Quota
from app.errors import OptionsError
from app.ledger import keys as ledger_keys
from app.ledger import pepper, schema, tenants
from app.ledger.database import Database
from app.settings import DAY_S, Settings, read_settings

UNLIMITED = "none"
commands = typer.Typer()
keys = typer.Typer(help="Make, list and revoke API keys.")
shares = typer.Typer(help="List tenants and set their quotas.")
commands.add_typer(keys, name="keys")
commands.add_typer(shares, name="tenants")

Home = Annotated[Path | None, typer.Option(help="folder of ledger and pepper; ~/.sanitizer")]
Json = Annotated[bool, typer.Option("--json", help="print JSON alone")]


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="what it is for, in your words")],
    tenant: Annotated[str, typer.Option(help="whose jobs and bytes it reaches; made if new")] = tenants.LOCAL,
    scope: Annotated[list[Scope] | None, typer.Option(help="what it may do, repeatable; all")] = None,
    days: Annotated[float | None, typer.Option(min=0, max=36500, help="until it expires; never")] = None,
    home: Home = None,
    as_json: Json = False,  # noqa: FBT002 - a flag of the command line
) -> None:
    """Make a key and print it. It is shown this once."""
    if not TENANT.fullmatch(tenant):
        raise OptionsError("--tenant takes up to 64 of a-z, 0-9 and '-', a letter or digit first.")
    if not KEY_NAME.fullmatch(name) or not name.isprintable():
        raise OptionsError("NAME takes 1 to 255 characters that can be printed.")
    with _ledger(home) as (tx, settings):
        tenants.ensure(tx, tenant, None if tenant == tenants.LOCAL else NEWCOMER)
        text, key = ledger_keys.create(
            tx,
            tenant,
            name,
            scope or list(Scope),
            pepper.read(settings),
            expires_s=None if days is None else days * DAY_S,
        )
    if as_json:
        typer.echo(json.dumps({"key": text, **key.model_dump(mode="json")}))
        return
    said = f"key {key.id} of tenant {tenant} ({', '.join(key.scopes)}); keep it, it is not shown again:"
    typer.echo(said, err=True)
    typer.echo(text)
    if settings.auth == "off":
        typer.secho("keys count once SANITIZER_AUTH=keys is set", fg=typer.colors.YELLOW, err=True)


@keys.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="only this one's")] = None,
    home: Home = None,
    as_json: Json = False,  # noqa: FBT002
) -> None:
    """List all keys, without their secrets."""
    with _ledger(home) as (tx, _):
        found = ledger_keys.everyone(tx, tenant)
    rows = [
        (key.id, key.name, key.tenant, ", ".join(key.scopes), _standing(key), _day(key.used_at))
        for key in found
    ]
    _show(("id", "name", "tenant", "scopes", "standing", "last used"), rows, found, as_json=as_json)


@keys.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(metavar="ID")], home: Home = None) -> None:
    """End a key, from its next call on."""
    with _ledger(home) as (tx, _):
        key = ledger_keys.revoke(tx, key_id)
    typer.echo(f"key {key.id} ({key.name}) is revoked")


@shares.command("list")
def list_tenants(home: Home = None, as_json: Json = False) -> None:  # noqa: FBT002
    """List all tenants: what they use, and of how much."""
    with _ledger(home) as (tx, _):
        found = tenants.everyone(tx)
    rows = [
        (
            tenant.id,
            _of(tenant.queued, tenant.quota.max_queued),
            _of(tenant.running, tenant.quota.max_running),
            _of(tenant.bytes, tenant.quota.max_bytes),
        )
        for tenant in found
    ]
    _show(("tenant", "queued", "running", "bytes"), rows, found, as_json=as_json)


@shares.command("limit")
def limit_tenant(
    tenant: str,
    queued: Annotated[str | None, typer.Option(metavar="N|none", help="jobs that wait")] = None,
    running: Annotated[str | None, typer.Option(metavar="N|none", help="jobs that run")] = None,
    stored: Annotated[str | None, typer.Option("--bytes", metavar="N|none", help="bytes stored")] = None,
    home: Home = None,
) -> None:
    """Set a tenant's quotas; none lifts one, and what is not named stays as it is."""
    asked = {"max_queued": queued, "max_running": running, "max_bytes": stored}
    given = {name: None if text == UNLIMITED else text for name, text in asked.items() if text is not None}
    try:
        quota = Quota.model_validate(given)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise OptionsError(f"{wrong['loc'][0]} {wrong['input']!r}: {wrong['msg']}.") from error
    with _ledger(home) as (tx, _):
        quota = tenants.limit(tx, tenant, quota.model_dump(exclude_unset=True)).quota
    typer.echo(f"{tenant}: " + ", ".join(f"{name} {_or_none(value)}" for name, value in quota))


@contextmanager
def _ledger(home: Path | None) -> Iterator[tuple[sa.Connection, Settings]]:
    """A transaction on the ledger of the settings, with its tables brought up to date."""
    settings = read_settings(**({} if home is None else {"home": home}))
    database = Database(settings.database)
    try:
        schema.upgrade(database)
        with database.write() as tx:
            yield tx, settings
    finally:
        database.close()


def _show(
    titles: Sequence[str], rows: Sequence[Sequence[str]], found: Sequence[Frozen], *, as_json: bool
) -> None:
    if as_json:
        typer.echo(json.dumps([value.model_dump(mode="json") for value in found]))
        return
    table = Table(*titles, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)


def _standing(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_day(key.revoked_at)}"
    if key.expires_at is not None:
        return f"{'until' if key.active else 'expired'} {_day(key.expires_at)}"
    return "active"


def _day(time: datetime | None) -> str:
    return "never" if time is None else f"{time:%Y-%m-%d %H:%M}"


def _of(used: int, most: int | None) -> str:
    return f"{used:,} of {_or_none(most)}"


def _or_none(value: int | None) -> str:
    return UNLIMITED if value is None else f"{value:,}"
