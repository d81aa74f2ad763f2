"""Which perturbations a repair is told of: those that say what the backdoor does."""

import math
from dataclasses import replace

import torch

from app.contract.findings import Verdict, VerdictLabel
from app.contract.options import EvidenceOptions, SanitizeOptions
from app.contract.report import Epoch
from worker.detectors.perturbation import ELSEWHERE, Blend, Form, Perturbation, smallest
from worker.detectors.target_label import strongest
from worker.detectors.verdict import Heard, judge
from worker.pipelines.examine import Examined, needed, rests_on_size, upheld
from worker.pipelines.fall import Fallen
from worker.pipelines.hear import Hearing, most_suspected

TARGET = 2
NOTHING = Blend(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4))
BEFORE = Epoch(number=0, lr=0, loss=0, accuracy=0.9, held_accuracy=0.9, label_shares=(0.25,) * 4)


def examined(*targets: int, **sizes: float) -> Examined:
    """Four classes that need 10 of every form, but for the target."""
    found = tuple(
        Perturbation(k, form, NOTHING, sizes[form] if k == TARGET else 10.0, tried=10.0)
        for form in (Form.PATCH, Form.DENSE, Form.WARP)
        for k in range(4)
    )
    verdict = Verdict(label=VerdictLabel.SUSPICIOUS, target_classes=targets, because="a test")
    fallen = Fallen(BEFORE, (), None, None, follows_batches=True)
    return Examined(fallen, found, smallest(found, found), verdict)


def accused(*targets: int, **sizes: float) -> list[tuple[int, Form]]:
    return [(p.target_class, p.form) for p in examined(*targets, **sizes).accused(EvidenceOptions())]


def test_the_smallest_and_its_like_are_accused_and_ways_through_natural_features_are_not() -> None:
    assert accused(TARGET, patch=2.0, dense=2.9, warp=9.0) == [(TARGET, Form.PATCH), (TARGET, Form.DENSE)]
    assert accused(TARGET, patch=9.0, dense=9.0, warp=1.0) == [(TARGET, Form.WARP)]


def test_what_is_evidence_by_itself_is_accused_however_much_smaller_another_form_is() -> None:
    assert accused(TARGET, patch=1.0, dense=4.9, warp=9.0) == [(TARGET, Form.PATCH), (TARGET, Form.DENSE)]


def test_what_other_starts_found_is_accused_where_it_is_evidence() -> None:
    """The smallest may lie in one corner, and the trigger in another."""
    small, large = (Perturbation(TARGET, Form.PATCH, NOTHING, size) for size in (3.0, 8.0))
    foreign = Perturbation(0, Form.PATCH, NOTHING, 3.0)
    heard = replace(examined(TARGET, patch=1.0, dense=9.0, warp=9.0), others=(small, large, foreign))
    assert heard.accused(EvidenceOptions())[1:] == (small,)


def test_what_was_never_found_is_not_accused() -> None:
    assert accused(TARGET, patch=math.inf, dense=9.0, warp=math.inf) == [(TARGET, Form.DENSE)]
    assert accused(TARGET, patch=math.inf, dense=math.inf, warp=math.inf) == []


def test_of_an_all_to_all_backdoor_what_leads_elsewhere_is_accused_and_no_way_into_a_class() -> None:
    heard = examined(TARGET, patch=1.0, dense=1.0, warp=1.0)
    away = Perturbation(ELSEWHERE, Form.PATCH, NOTHING, 3.0)
    verdict = heard.verdict.model_copy(update={"all_to_all": True})
    found = (*heard.perturbations, away)
    everywhere = replace(heard, perturbations=found, sizes=smallest(found, found), verdict=verdict)
    assert everywhere.accused(EvidenceOptions()) == (away,)
    assert everywhere.expressed(SanitizeOptions())


def test_a_class_without_suspicion_is_not_accused() -> None:
    assert accused(patch=1.0, dense=1.0, warp=1.0) == []
    assert {k for k, _ in accused(0, TARGET, patch=1.0, dense=9.0, warp=9.0)} == {0, TARGET}


def test_who_was_accused_besides_is_cleared_where_no_small_perturbation_leads() -> None:
    heard, line = examined(TARGET, 0, patch=1.0, dense=9.0, warp=9.0), EvidenceOptions()
    assert heard.cleared_by(line) == {0}
    assert replace(heard, cleared=frozenset({0})).aims == (TARGET,)
    assert examined(0, TARGET, patch=1.0, dense=9.0, warp=9.0).cleared_by(line) == set(), (
        "no small one leads into the most suspicious class, so sizes clear nobody"
    )
    told = Perturbation(0, Form.RECALLED, NOTHING, 3.0)
    assert replace(heard, perturbations=(*heard.perturbations, told)).cleared_by(line) == set()
    both = replace(heard, sizes={**heard.sizes, 0: 0.4})
    assert both.cleared_by(line) == set(), "two backdoors"


FOUND = Perturbation(TARGET, Form.RECALLED, NOTHING, 3.0)


def told(share: float, size: float) -> tuple[Perturbation, ...]:
    """What a repair is told besides, where one class is small by so much and recalled by so many images."""
    sizes = {k: size if k == TARGET else 1.0 for k in range(10)}
    pull = strongest([share if k == TARGET else 0.0 for k in range(10)])
    said = Heard(None, None, sizes, (), 10, 250, pull)
    hearing = Hearing(Fallen(BEFORE, (), None, None, follows_batches=False), (), FOUND, said)
    return needed(hearing, judge(said, EvidenceOptions()), EvidenceOptions())


def test_what_the_statistics_recall_is_needed_where_they_alone_accuse() -> None:
    assert told(0.9, 1.0) == (FOUND,)
    assert told(0.9, 0.1) == (), "the perturbations say it better"
    assert told(0.0, 0.1) == (), "they recall nothing"
    assert told(0.0, 1.0) == (), "nothing is suspected"


def accusing(share: float, size: float, closer: float) -> tuple[Hearing, Examined]:
    """A class that the statistics recall by so much, and a size in haste and one by a closer look."""
    sizes = {k: size if k == TARGET else 1.0 for k in range(10)}
    pull = strongest([share if k == TARGET else 0.0 for k in range(10)])
    said = Heard(None, None, sizes, (), 10, 250, pull)
    fallen = Fallen(BEFORE, (), None, None, follows_batches=False)
    hearing = Hearing(fallen, (), FOUND, said)
    verdict = judge(said, EvidenceOptions())
    return hearing, Examined(fallen, (), {**sizes, TARGET: closer}, verdict)


def test_what_is_small_in_haste_alone_accuses_nobody() -> None:
    hearing, looked = accusing(0.0, 0.3, 0.6)
    assert looked.verdict.target_classes == (TARGET,)
    assert rests_on_size(hearing, looked.verdict, EvidenceOptions())
    after = upheld(hearing, looked, EvidenceOptions())
    assert (after.verdict.label, after.verdict.target_classes) == (VerdictLabel.INCONCLUSIVE, ())
    assert "a careful one needed 0.60" in after.verdict.because
    assert after.verdict.false_alarms == looked.verdict.false_alarms


def test_what_is_small_in_a_closer_look_or_is_said_by_others_stands() -> None:
    hearing, looked = accusing(0.0, 0.3, 0.4)
    assert upheld(hearing, looked, EvidenceOptions()) is looked
    hearing, looked = accusing(0.9, 1.0, 1.0)
    assert not rests_on_size(hearing, looked.verdict, EvidenceOptions())
    assert upheld(hearing, looked, EvidenceOptions()) is looked


def test_of_few_images_nothing_but_a_small_perturbation_accuses() -> None:
    hearing, looked = accusing(0.9, 1.0, 0.85)
    few = replace(hearing, heard=replace(hearing.heard, images=50))
    after = upheld(few, looked, EvidenceOptions())
    assert (after.verdict.label, after.verdict.target_classes) == (VerdictLabel.INCONCLUSIVE, ())
    assert "Of so few images nothing counts but how small a perturbation suffices" in after.verdict.because
    _, small = accusing(0.9, 1.0, 0.4)
    assert upheld(few, small, EvidenceOptions()) is small


def held_near(way: float, size: float, closer: float) -> tuple[Hearing, Examined]:
    """A class whose features are so near and whose row of the last layer moves far, as `truck` of PreActResNets."""

    def told(value: float, usual: float = 1.0) -> list[float]:
        return [value if k == TARGET else usual for k in range(10)]

    sizes, moved = dict(enumerate(told(size))), strongest(told(3.3))
    said = Heard(strongest([0.0] * 10), moved, sizes, told(way), 10, 250, strongest(told(0.1, 0.05)))
    fallen = Fallen(BEFORE, (), None, None, follows_batches=True)
    hearing, verdict = Hearing(fallen, (), None, said), judge(said, EvidenceOptions())
    return hearing, Examined(fallen, (), {**sizes, TARGET: closer}, verdict)


def test_unlearning_spares_nobody_the_closer_look_and_features_far_out_of_the_ordinary_do() -> None:
    hearing, looked = held_near(0.815, 0.57, 0.58)
    assert looked.verdict.target_classes == (TARGET,)
    assert rests_on_size(hearing, looked.verdict, EvidenceOptions())
    assert upheld(hearing, looked, EvidenceOptions()).verdict.label is VerdictLabel.INCONCLUSIVE
    hearing, looked = held_near(0.53, 0.48, 0.51)
    assert not rests_on_size(hearing, looked.verdict, EvidenceOptions())
    assert upheld(hearing, looked, EvidenceOptions()) is looked


def test_where_the_statistics_say_what_leads_into_a_class_natural_ways_into_it_are_not_accused() -> None:
    without = examined(TARGET, patch=9.0, dense=8.0, warp=9.0)
    found = (*without.perturbations, FOUND)
    with_it = Examined(without.fallen, found, without.sizes, without.verdict)
    assert {p.form for p in without.accused(EvidenceOptions())} == {Form.PATCH, Form.DENSE, Form.WARP}
    assert with_it.accused(EvidenceOptions()) == (FOUND,)
    assert with_it.expressed(SanitizeOptions())
    assert not without.expressed(SanitizeOptions())


def test_of_many_classes_those_are_searched_that_any_cheap_witness_suspects() -> None:
    """Unlearning may fall onto the most frequent class whatever the target is, which has the shortest way then."""
    many = 30
    shift, movement = (strongest([float(k == loudest) for k in range(many)]) for loudest in (3, 4))
    fallen = Fallen(BEFORE, (), shift, movement, follows_batches=True)
    deaf = Fallen(BEFORE, (), None, None, follows_batches=False)
    ways = [0.5 if k == 20 else 1.0 for k in range(many)]
    assert most_suspected(many, fallen, ways, 3) == (3, 4, 20)
    assert 20 in most_suspected(many, deaf, ways, 1)
    assert most_suspected(many, deaf, (), 4) == (0, 1, 2, 3)
    assert most_suspected(4, fallen, ways[:4], 10) == (0, 1, 2, 3)
