"""Real files, made small: an encoder of one colour and a packer of archives."""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

Colour = int | tuple[int, ...]


@pytest.fixture
def encode() -> Callable[..., bytes]:
    def encode(colour: Colour, mode: str = "RGB", size: tuple[int, int] = (4, 4), kind: str = "PNG") -> bytes:
        buffer = io.BytesIO()
        Image.new(mode, size, colour).save(buffer, kind)
        return buffer.getvalue()

    return encode


@pytest.fixture
def pack(tmp_path: Path) -> Callable[..., Path]:
    def pack(files: Mapping[str, bytes], name: str = "samples.zip") -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in files.items():
                archive.writestr(path, data)
        return tmp_path / name

    return pack


@pytest.fixture
def unfold(tmp_path: Path) -> Callable[..., Path]:
    def unfold(files: Mapping[str, bytes], name: str = "samples") -> Path:
        for path, data in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return tmp_path / name

    return unfold
