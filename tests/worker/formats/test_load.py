"""A model that cannot take images of the size it is told says so, however its module says it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from app.errors import ExitCode, ModelError
from worker.formats import architectures
from worker.formats.architectures.interface import Architecture
from worker.formats.load import load


class Picky(nn.Module):
    """Takes images of one size, and objects to others as `objects` does."""

    def __init__(self, num_classes: int, objects: type[Exception]) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.objects = objects

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2] != 32:
            raise self.objects(f"Wrong image height! Expected 32 but got {images.shape[2]}!")
        logits: Tensor = self.head(images.mean((2, 3)))
        return logits


@pytest.mark.parametrize("objects", [AssertionError, RuntimeError, ValueError])
def test_images_of_a_size_that_the_module_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objects: type[Exception]
) -> None:
    picky = Architecture(lambda num_classes: Picky(num_classes, objects), lambda _: {"num_classes": 4})
    monkeypatch.setitem(architectures.REGISTRY, "picky", picky)
    torch.manual_seed(0)
    save_file(Picky(4, objects).state_dict(), tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors", "picky").num_classes == 4
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "model.safetensors", "picky", input_size=48)
    assert (caught.value.code, caught.value.exit_code) == ("model.input_size", ExitCode.UNSUPPORTED)
    assert "48×48" in caught.value.detail
