"""Every setting of the service: one class, read once from `SANITIZER_…` variables, wrong ones refused at the start.

Three URLs swap the parts, each alone: `SANITIZER_DATABASE_URL` (SQLite, PostgreSQL), `SANITIZER_BROKER_URL`
(filesystem, Redis), `SANITIZER_BLOBS_URL` (a folder, S3). Left out, all three lie under `SANITIZER_HOME`.
"""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.contract.artifact import ArtifactKind
from app.contract.confinement import Level
from app.contract.frozen import Frozen
from app.contract.limits import PREFIX, InputLimits
from app.errors import SettingsError

SIGNING_KEY = "SANITIZER_SIGNING_KEY"
LOCALHOST = "localhost"
DAY_S = 86400
MIB = 1024 * 1024
PEPPER_LENGTH = 32
RATE = r"^(off|[1-9]\d{0,8}/(second|minute|hour|day))$"


class Limits(Frozen):
    """What one request may ask for; published at `/v1/limits`."""

    max_model_bytes: int = Field(2048 * MIB, gt=0)
    max_samples_bytes: int = Field(
        1024 * MIB, gt=0, description="clean, triggered or suspect images; each on its own"
    )
    max_parts: int = Field(10_000, ge=1, le=1_000_000, description="of one upload in parts")
    max_uploads: int = Field(20, ge=1, description="in parts, on their way at once")
    upload_hours: float = Field(24, gt=0, description="an upload without a new part for longer is forgotten")
    max_json_bytes: int = Field(64 * 1024, gt=0, description="a JSON body, or the options of a form")
    max_wait_s: float = Field(30, ge=0, le=60, description="of one long poll")
    max_stream_s: float = Field(3600, gt=0, description="of one stream of events; clients then come back")
    idle_s: float = Field(15, gt=0, description="how long an upload may pause")
    slowest: int = Field(1024, ge=0, description="bytes a second that an upload brings, from idle_s on")
    page_size: int = Field(100, ge=1, le=1000, description="jobs on one page, at most")
    read_rate: str = Field(
        "1200/minute", pattern=RATE, description="GET and HEAD of one tenant; off: no limit"
    )
    submit_rate: str = Field(
        "120/minute", pattern=RATE, description="POST and PUT of one tenant; off: no limit"
    )
    delete_rate: str = Field("120/minute", pattern=RATE, description="DELETE of one tenant; off: no limit")
    keep_days: float = Field(30, gt=0, description="what is kept, from its last use")
    idempotency_hours: float = Field(24, gt=0)

    @property
    def keep_s(self) -> float:
        """`keep_days` in seconds."""
        return self.keep_days * DAY_S

    @property
    def upload_s(self) -> float:
        """`upload_hours` in seconds."""
        return self.upload_hours * DAY_S / 24

    def max_bytes(self, kind: ArtifactKind) -> int:
        """The most that an upload of `kind` may hold."""
        return self.max_model_bytes if kind is ArtifactKind.MODEL else self.max_samples_bytes


class Clocks(Frozen):
    """The seconds by which a job is never lost; all measured by the database's clock."""

    heartbeat_s: float = Field(
        2, gt=0, description="between two renewals of a lease; also how soon a cancel is seen"
    )
    lease_s: float = Field(30, gt=0, description="a worker that is silent for longer has lost its job")
    stall_s: float = Field(1800, gt=0, description="a job without any progress for longer is ended")
    deadline_s: float = Field(4 * 3600, gt=0, description="a job that runs for longer is ended")
    grace_s: float = Field(10, ge=0, description="from SIGTERM to SIGKILL")
    look_s: float = Field(10, gt=0, description="between two looks at the ledger without a bell")
    drain_s: float = Field(30, ge=0, description="what a running job still gets when its worker is stopped")
    max_losses: int = Field(3, ge=1, description="workers that a job may cost before it is called poisoned")

    @model_validator(mode="after")
    def _a_lease_outlives_heartbeats(self) -> Self:
        if self.lease_s < 3 * self.heartbeat_s:
            raise ValueError("lease_s must be at least three times heartbeat_s")
        return self


class S3Settings(Frozen):
    """How to reach the bucket; what is empty comes from `AWS_…` variables or from the machine's role."""

    endpoint: str = Field("", pattern=r"^(https?://.+)?$", description="https://…; empty: Amazon's")
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = Field("", repr=False)


class Settings(BaseSettings):
    """The service, described."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    home: Path = Field(Path("~/.sanitizer"), description="the folder of whatever has no URL of its own")
    database_url: str = Field("", description="sqlite:///FILE or postgresql+psycopg://…")
    broker_url: str = Field("", description="filesystem:// or redis://…")
    blobs_url: str = Field("", description="file:///FOLDER or s3://BUCKET/PREFIX")
    s3: S3Settings = S3Settings()
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    auth: Literal["off", "keys"] = Field("off", description="off: whoever reaches the port may do everything")
    pepper: str = Field(
        "",
        repr=False,
        description="secret of the key hashes, at least 32 characters; empty: in a file of `home`",
    )
    signing_key: Path | None = Field(
        None,
        description="PEM file of an ECDSA P-256 key; the API signs statements with it, no worker sees it",
    )
    pool: str = Field("cpu", pattern=r"^[a-z][a-z0-9-]{0,31}$", description="the device kind of this worker")
    slots: int = Field(1, ge=1, le=64, description="jobs that this worker runs at once")
    confinement: Level = Field(
        Level.FULL,
        description="the layers that must hold before a worker opens anything: full, reduced, none",
    )
    limits: Limits = Limits()
    reading: InputLimits = Field(InputLimits(), description="what is read of an uploaded file at most")
    clocks: Clocks = Clocks()

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @field_validator("signing_key", mode="before")
    @classmethod
    def _empty_is_none(cls, path: str | Path | None) -> str | Path | None:
        return path or None

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, url: str) -> str:
        return _one_of(url, "sqlite:///", "postgresql+psycopg://")

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, url: str) -> str:
        return _one_of(url, "filesystem://", "redis://", "rediss://")

    @field_validator("blobs_url")
    @classmethod
    def _known_blobs(cls, url: str) -> str:
        return _one_of(url, "file:///", "s3://")

    @field_validator("pepper")
    @classmethod
    def _hard_to_guess(cls, pepper: str) -> str:
        if pepper and len(pepper) < PEPPER_LENGTH:
            raise ValueError(f"must have at least {PEPPER_LENGTH} characters")
        return pepper

    @model_validator(mode="after")
    def _unlocked_only_at_home(self) -> Self:
        if self.auth == "off" and not is_loopback(self.host):
            raise ValueError(
                f"auth is off, and {self.host} can be reached from other machines: set SANITIZER_AUTH=keys"
            )
        return self

    @property
    def database(self) -> str:
        """Where the ledger is."""
        return self.database_url or f"sqlite:///{self.home / 'ledger.db'}"

    @property
    def broker(self) -> str:
        """Where the bell hangs."""
        return self.broker_url or "filesystem://"

    @property
    def blobs(self) -> str:
        """Where the bytes are."""
        return self.blobs_url or f"file://{self.home / 'blobs'}"

    @property
    def pepper_file(self) -> Path:
        """Where the pepper is kept that no setting names."""
        return self.home / "pepper"

    @property
    def bell_folder(self) -> Path:
        """What the filesystem broker writes to."""
        return self.home / "bell"

    @property
    def jobs_folder(self) -> Path:
        """Where running jobs have their folders; on the disk of the worker."""
        return self.home / "jobs"


def read_settings(**given: Any) -> Settings:  # noqa: ANN401 - whatever the command line was told
    """Settings from the environment, and over them what is `given`. Raises `SettingsError` with the first mistake."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name.split("__")[0] not in known:
            raise SettingsError(f"{name} is no setting.", code="settings.unknown")
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError.of(PREFIX, error) from error


def environment(settings: Settings) -> dict[str, str]:
    """The variables from which another process reads these very settings."""
    return _variables(PREFIX, settings.model_dump(mode="json", exclude_unset=True, exclude_none=True))


def _variables(prefix: str, stated: Mapping[str, Any]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name, value in stated.items():
        variable = prefix + name.upper()
        variables |= _variables(f"{variable}__", value) if isinstance(value, dict) else {variable: str(value)}
    return variables


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return host == LOCALHOST or ip_address(host).is_loopback
    except ValueError:
        return False


def _one_of(url: str, *schemes: str) -> str:
    if url and not url.startswith(schemes):
        raise ValueError(f"must start with {' or '.join(schemes)}")
    return url
