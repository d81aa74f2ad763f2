"""The two stores that every test of the port runs on."""

from pathlib import Path
from uuid import uuid4

import pytest

from app.blobs.choose import open_blobs
from app.blobs.interface import Blobs
from app.settings import S3Settings, Settings


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "folder":
        return open_blobs(Settings(blobs_url=f"file://{tmp_path}/blobs"))
    variables = request.getfixturevalue("s3_variables")
    s3 = {name.removeprefix("S3__").lower(): value for name, value in variables.items() if "S3__" in name}
    return open_blobs(
        Settings(blobs_url=f"{variables['BLOBS_URL']}/{uuid4().hex}", s3=S3Settings.model_validate(s3))
    )
