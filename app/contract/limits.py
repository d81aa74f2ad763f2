"""What is read of an uploaded file at most, the same on the command line and in the service.

A setting, `SANITIZER_READING__SAMPLES__IMAGES=50000` for one of them; `sanitizer limits` and `/v1/limits` tell all.
The child that reads has no other setting, so it finds these in the same variables.
"""

from functools import cache
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.contract.frozen import Frozen
from app.errors import SettingsError

PREFIX = "SANITIZER_"
READING = f"{PREFIX}READING"  # how the variables of these limits begin

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
Bound = Annotated[int, Field(gt=0, le=1 << 62)]


class ModelLimits(Frozen):
    """Of a model file."""

    header_bytes: Bound = Field(16 * MIB, description="of a safetensors header")
    metadata_keys: Bound = Field(256, description="in a safetensors header")
    metadata_bytes: Bound = Field(64 * KIB, description="of one entry of the metadata")
    tensors: Bound = Field(20_000, description="in one file")
    dimensions: Bound = Field(8, description="of one tensor")
    elements: Bound = Field(
        1 << 48, description="of one tensor, so that no arithmetic on its shape overflows"
    )
    name_length: Bound = Field(256, description="characters of a tensor's name")
    pickle_bytes: Bound = Field(16 * MIB)
    pickle_instructions: Bound = Field(1_000_000)
    pickle_parts: Bound = Field(1_000_000, description="shared parts count each time they are met")
    pickle_nesting: Bound = Field(32, description="a checkpoint with an optimizer has 6")
    members: Bound = Field(
        50_000, description="of a checkpoint's archive: a storage for each tensor, and few more"
    )
    directory_bytes: Bound = Field(8 * MIB, description="of the archive's directory")
    shared: Bound = Field(
        2, description="how often all bytes of the file may be read as tensors; tied weights are twice"
    )


class SamplesLimits(Frozen):
    """Of an archive or a folder of samples: two orders of magnitude above what is needed."""

    images: Bound = Field(
        20_000, description="forty times what unlearning needs; more only makes every stage slower"
    )
    archive_bytes: Bound = Field(1 * GIB, description="20 000 photographs of 50 kB")
    unpacked_bytes: Bound = Field(4 * GIB, description="20 000 images of 224×224×3 in an .npz are 3 GB")
    entry_bytes: Bound = Field(20 * MIB, description="one encoded image; a 16 MP photograph is 5 to 10 MB")
    ratio: Bound = Field(
        100, description="unpacked to packed, of the whole archive; encoded images hardly reach 2"
    )
    ratio_free_bytes: Bound = Field(64 * MIB, description="below it the ratio says nothing and harms nobody")
    directory_bytes: Bound = Field(8 * MIB, description="of the archive's directory, which is read whole")
    entries: Bound = Field(50_000, description="an archive made on a Mac has two entries a file")
    pixels: Bound = Field(
        4096 * 4096, description="of one image; 64 MB decoded, and one is decoded at a time"
    )
    tensor_bytes: Bound = Field(
        4 * GIB, description="all images at the size of the model's input, held at once"
    )
    classes_json_bytes: Bound = Field(1 * MIB, description="20 000 names of 50 bytes")
    name_length: Bound = Field(255, description="of one part of a path, as on most file systems")
    shown_length: Bound = Field(80, description="of a foreign name inside a message")


class InputLimits(Frozen):
    """All of them."""

    model: ModelLimits = ModelLimits()
    samples: SamplesLimits = SamplesLimits()


class _Variables(BaseSettings):
    """Where they are set."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    reading: InputLimits = InputLimits()


@cache
def input_limits() -> InputLimits:
    """Those of this process. Raises `SettingsError` with the first mistake."""
    try:
        return _Variables().reading
    except ValidationError as error:
        raise SettingsError.of(PREFIX, error) from error
