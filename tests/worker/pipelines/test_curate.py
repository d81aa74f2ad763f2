"""A curation in process, on real models and images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from app.contract.curation import CurateOptions, Curation
from app.errors import OptionsError, OutputError, SanitizerError
from tests.conftest import BACKDOORED, SAMPLES
from worker.device import Placement
from worker.pipelines.curate import Curated, CurationRequest, curate
from worker.pipelines.deliver import check_curation, deliver_curation, image_name
from worker.samples.unlabelled import read_images

CPU = Placement(torch.device("cpu"), memory_format=torch.channels_last)
EVERY = SAMPLES.with_suffix(".npz")


def run(pool: Path, model: Path = BACKDOORED, **given: Any) -> Curated:
    options = CurateOptions.model_validate({"budget": 10, "normalize": "cifar10", **given})
    return curate(CurationRequest(model, pool, options, CPU))


def facts(curated: Curated) -> dict[str, Any]:
    return curated.report.model_dump(exclude={"timings"})


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Forty images of the example."""
    with np.load(EVERY) as held:
        np.savez(tmp_path / "few.npz", images=held["images"][::12][:40])
    return tmp_path / "few.npz"


def altered(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    state = load_file(BACKDOORED)
    change(state)
    save_file(state, folder / "altered.safetensors")
    return folder / "altered.safetensors"


def last_layer(state: dict[str, torch.Tensor], classes: int) -> None:
    """As many classes as are asked for, of the ten that there are."""
    for key in ("linear.weight", "linear.bias"):
        rows = torch.arange(classes) % len(state[key])
        state[key] = state[key][rows].contiguous()


@pytest.mark.parametrize("strategy", ["energy", "random"])
def test_the_same_seed_chooses_the_same(few: Path, strategy: str) -> None:
    first = run(few, strategy=strategy, seed=5)
    assert facts(first) == facts(run(few, strategy=strategy, seed=5))
    assert (first.report.strategy, first.report.seed, len(first.report.chosen)) == (strategy, 5, 10)


def test_another_seed_draws_others_and_leaves_the_energies_alone(few: Path) -> None:
    drawn = [{one.name for one in run(few, strategy="random", seed=seed).report.chosen} for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    ranked = [run(few, strategy="energy", seed=seed).report.chosen for seed in (0, 1)]
    assert ranked[0] == ranked[1]


def test_energy_chooses_the_least_decided_first_and_not_the_best_known(few: Path) -> None:
    chosen, every = (run(few, strategy="energy", budget=n).report.chosen for n in (10, 40))
    margins = [one.margin for one in chosen]
    assert margins == sorted(margins, reverse=True)
    median = sorted(one.energy for one in every)[20]
    assert all(one.energy >= median for one in chosen)


def test_the_images_come_in_the_order_of_the_report(few: Path) -> None:
    curated = run(few, strategy="energy")
    with np.load(few) as held:
        for one, image in zip(curated.report.chosen, curated.images, strict=True):
            assert torch.equal(torch.from_numpy(held["images"][int(one.name)]).permute(2, 0, 1), image)


@pytest.mark.parametrize("classes", [2, 200])
def test_any_number_of_classes_will_do(tmp_path: Path, few: Path, classes: int) -> None:
    model = altered(tmp_path, lambda state: last_layer(state, classes))
    report = run(few, model, strategy="energy").report
    assert report.model.num_classes == classes
    assert all(0 <= one.said < classes for one in report.chosen)
    assert len(report.unsaid) == classes - len({one.said for one in report.chosen})


def test_a_named_normalisation_is_no_guess(few: Path) -> None:
    report = run(few, normalize="half").report
    assert (report.model.normalisation.name, report.guess, report.warnings) == ("half", None, ())


def test_a_guess_is_told_with_a_warning() -> None:
    report = run(EVERY, normalize=None).report
    assert report.model.normalisation.name == "cifar10"
    assert report.guess is not None
    assert report.guess.by == "statistics"
    assert report.guess.tried["cifar10"] == min(report.guess.tried.values())
    (warning,) = report.warnings
    assert (warning.code, "--normalize" in warning.remedy) == ("options.normalize_guessed", True)


def test_one_image_is_chosen_where_there_is_no_other(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=np.load(EVERY)["images"][:1])
    report = run(tmp_path / "one.npz", budget=1, strategy="energy", normalize=None).report
    assert [one.name for one in report.chosen] == ["0"]


def test_images_of_another_size_are_resized_and_that_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), "red").save(tmp_path / "red.png")
    curated = run(tmp_path, budget=1)
    assert curated.images.shape == (1, 3, 32, 32)
    assert [warning.code for warning in curated.report.warnings] == ["samples.resized"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda state: last_layer(state, 1), "model.single_output"),
        (lambda state: state["conv1.weight"].mul_(1e38), "model.not_finite"),
        (lambda state: state.pop("linear.weight"), "model.unknown_architecture"),
    ],
    ids=["one output", "answers NaN", "no last layer"],
)
@pytest.mark.parametrize("normalize", [None, "cifar10"])
def test_a_model_that_cannot_be_asked_is_a_problem(
    tmp_path: Path,
    few: Path,
    change: Callable[[dict[str, torch.Tensor]], object],
    code: str,
    normalize: str | None,
) -> None:
    model = altered(tmp_path, change)
    with pytest.raises(SanitizerError) as caught:
        run(few, model, normalize=normalize)
    assert (caught.value.code, bool(caught.value.remedy)) == (code, True)


def test_a_budget_beyond_the_pool_is_a_problem_that_says_how_many_there_are(few: Path) -> None:
    with pytest.raises(OptionsError, match="41 images are asked for, and the pool holds 40") as caught:
        run(few, budget=41)
    assert (caught.value.code, "at most 40" in caught.value.remedy) == ("options.budget", True)


def test_an_empty_pool_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    with pytest.raises(SanitizerError) as caught:
        run(tmp_path / "pool")
    assert caught.value.code == "samples.empty"


def test_what_is_delivered_is_a_pool_of_the_same_pixels(few: Path, tmp_path: Path) -> None:
    curated = run(few)
    deliver_curation(curated, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["curated.json", "images"]
    written, warnings = read_images(tmp_path / "out" / "images", (3, 32, 32))
    assert torch.equal(written.images, curated.images)
    assert warnings == ()
    assert Curation.model_validate_json((tmp_path / "out" / "curated.json").read_bytes()) == curated.report


def test_grey_images_stay_grey(few: Path, tmp_path: Path) -> None:
    curated = run(few, budget=2)
    grey = Curated(curated.report, curated.images[:, :1])
    deliver_curation(grey, tmp_path / "out")
    written, warnings = read_images(tmp_path / "out" / "images", (1, 32, 32))
    assert torch.equal(written.images, grey.images)
    assert warnings == ()


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("17", "00003-17.png"),
        ("deer/IMG 1.final.JPG", "00003-IMG_1.final.png"),
        ("a/..png", "00003.png"),
        ("чай.png", "00003-___.png"),
        ("-rf.png", "00003-rf.png"),
        (f"{'n' * 250}.png", f"00003-{'n' * 100}.png"),
    ],
)
def test_a_written_image_has_a_safe_name_of_its_own(name: str, safe: str) -> None:
    assert image_name(3, name) == safe


def test_the_pool_is_no_place_for_what_was_chosen_of_it(tmp_path: Path) -> None:
    for out in (tmp_path / "pool", tmp_path / "pool" / "chosen"):
        with pytest.raises(OptionsError, match="lies in the pool"):
            check_curation(out, BACKDOORED, tmp_path / "pool")


def test_images_that_somebody_may_be_labelling_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    check_curation(tmp_path, BACKDOORED, SAMPLES)
    (tmp_path / "images" / "cat").mkdir()
    with pytest.raises(OutputError) as caught:
        check_curation(tmp_path, BACKDOORED, SAMPLES)
    assert caught.value.code == "output.exists"


def test_an_earlier_choice_without_its_images_is_replaced(few: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "curated.json").write_text("{}")
    curated = run(few, budget=1)
    deliver_curation(curated, tmp_path / "out")
    assert len(list((tmp_path / "out" / "images").iterdir())) == 1
    assert Curation.model_validate_json((tmp_path / "out" / "curated.json").read_bytes()) == curated.report
