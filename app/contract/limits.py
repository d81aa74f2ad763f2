"""What is read of an uploaded file at most: one value, the same on the command line and in the service.

`sanitizer limits` prints it.
"""

from pydantic import Field

from app.contract.frozen import Frozen

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


class ModelLimits(Frozen):
    """Of a model file."""

    header_bytes: int = Field(16 * MIB, description="of a safetensors header")
    metadata_keys: int = Field(256, description="in a safetensors header")
    metadata_bytes: int = Field(64 * KIB, description="of one entry of the metadata")
    tensors: int = Field(20_000, description="in one file")
    dimensions: int = Field(8, description="of one tensor")
    elements: int = Field(1 << 48, description="of one tensor, so that no arithmetic on its shape overflows")
    name_length: int = Field(256, description="characters of a tensor's name")
    pickle_bytes: int = Field(16 * MIB)
    pickle_instructions: int = Field(1_000_000)
    pickle_parts: int = Field(1_000_000, description="shared parts count each time they are met")
    pickle_nesting: int = Field(32, description="a checkpoint with an optimizer has 6")
    members: int = Field(
        50_000, description="of a checkpoint's archive: a storage for each tensor, and few more"
    )
    directory_bytes: int = Field(8 * MIB, description="of the archive's directory")
    shared: int = Field(
        2, description="how often all bytes of the file may be read as tensors; tied weights are twice"
    )


class SamplesLimits(Frozen):
    """Of an archive or a folder of samples: two orders of magnitude above what is needed."""

    images: int = Field(
        20_000, description="forty times what unlearning needs; more only makes every stage slower"
    )
    archive_bytes: int = Field(1 * GIB, description="20 000 photographs of 50 kB")
    unpacked_bytes: int = Field(4 * GIB, description="20 000 images of 224×224×3 in an .npz are 3 GB")
    entry_bytes: int = Field(20 * MIB, description="one encoded image; a 16 MP photograph is 5 to 10 MB")
    ratio: int = Field(
        100, description="unpacked to packed, of the whole archive; encoded images hardly reach 2"
    )
    ratio_free_bytes: int = Field(64 * MIB, description="below it the ratio says nothing and harms nobody")
    directory_bytes: int = Field(8 * MIB, description="of the archive's directory, which is read whole")
    entries: int = Field(50_000, description="an archive made on a Mac has two entries a file")
    pixels: int = Field(4096 * 4096, description="of one image; 64 MB decoded, and one is decoded at a time")
    tensor_bytes: int = Field(
        4 * GIB, description="all images at the size of the model's input, held at once"
    )
    classes_json_bytes: int = Field(1 * MIB, description="20 000 names of 50 bytes")
    name_length: int = Field(255, description="of one part of a path, as on most file systems")
    shown_length: int = Field(80, description="of a foreign name inside a message")


class InputLimits(Frozen):
    """All of them."""

    model: ModelLimits = ModelLimits()
    samples: SamplesLimits = SamplesLimits()


LIMITS = InputLimits()
