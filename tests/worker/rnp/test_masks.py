"""Filter masks: what gets one, what it does to the net, and the order it gives the filters."""

import pytest
import torch
from torch import Tensor, nn

from worker.classifier import Classifier
from worker.device import Placement
from worker.rnp.masks import Filter, FilterMasks, maskable, masked_forward, mean, ones
from worker.rnp.prune import prune

IMAGES = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Mlp(nn.Module):
    """The feed-forward half of a transformer block."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(torch.relu(self.fc1(x)))


class TinyTransformer(nn.Module):
    """Patches, two blocks of attention and feed-forward, a head; normalised by LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.blocks = nn.ModuleList([Mlp(8, 16), Mlp(8, 12)])
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = self.norm(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0])
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.mean(1))


def with_norm(*, affine: bool = True) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 5, 3),
        nn.BatchNorm2d(5, affine=affine),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 16, 4),
    )


def without_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 7), nn.ReLU(), nn.Linear(7, 4)
    )


def only_bare_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, affine=False), nn.Flatten(), nn.Linear(6 * 36, 4)
    )


NETS = {
    "batch norm": (with_norm, {"1.weight": 6, "4.weight": 5}),
    "one norm without affine": (lambda: with_norm(affine=False), {"1.weight": 6}),
    "only norms without affine": (only_bare_norm, {"0.weight": 6}),
    "no norm": (without_norm, {"0.weight": 6, "3.weight": 7}),
    "layer norm": (TinyTransformer, {"blocks.0.fc1.weight": 16, "blocks.1.fc1.weight": 12}),
}


@pytest.mark.parametrize("name", NETS)
def test_what_is_maskable(name: str) -> None:
    build, expected = NETS[name]
    assert maskable(build()) == expected


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_masks_of_one_change_nothing_and_masks_of_zero_prune(name: str) -> None:
    module = NETS[name][0]().eval()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    masks = ones(module)
    torch.testing.assert_close(masked_forward(module, masks, IMAGES), module(IMAGES), rtol=0, atol=0)

    half = {key: (torch.arange(len(mask)) % 2).float() for key, mask in masks.items()}
    dead = [f for f in FilterMasks(half).ranked() if f.mask == 0]
    unit = torch.ones(1, 1, 1, 1)
    pruned = prune(Classifier(module, 4, 0 * unit, unit, Placement(torch.device("cpu"))), dead)
    torch.testing.assert_close(masked_forward(module, half, IMAGES), pruned.eval()(IMAGES))
    assert not torch.equal(pruned(IMAGES), module(IMAGES))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_only_masks_get_gradients() -> None:
    module = with_norm().requires_grad_(requires_grad=False)
    masks = {name: mask.requires_grad_() for name, mask in ones(module).items()}
    masked_forward(module, masks, IMAGES).square().sum().backward()
    assert all(mask.grad is not None for mask in masks.values())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_ranked_is_ascending_over_all_layers_and_ties_keep_the_order_of_the_network() -> None:
    masks = FilterMasks({"b": torch.tensor([0.5, 0.0, 1.0]), "a": torch.tensor([0.5, 0.25, 0.0])})
    assert len(masks) == 6
    assert masks.ranked() == (
        Filter("b", 1, 0.0),
        Filter("a", 2, 0.0),
        Filter("a", 1, 0.25),
        Filter("b", 0, 0.5),
        Filter("a", 0, 0.5),
        Filter("b", 2, 1.0),
    )
    assert masks.ranked() == masks.ranked()


@pytest.mark.parametrize(("threshold", "pruned"), [(-1.0, 0), (0.0, 2), (0.25, 3), (0.5, 5), (1.0, 6)])
def test_below_includes_the_threshold(threshold: float, pruned: int) -> None:
    masks = FilterMasks({"b": torch.tensor([0.5, 0.0, 1.0]), "a": torch.tensor([0.5, 0.25, 0.0])})
    assert masks.below(threshold) == masks.ranked()[:pruned]


def test_votes_are_averaged_filter_by_filter() -> None:
    votes = [FilterMasks({"a": torch.tensor(v)}) for v in ([0.0, 1.0], [0.5, 1.0], [1.0, 0.25])]
    torch.testing.assert_close(mean(votes).values["a"], torch.tensor([0.5, 0.75]))
