"""The verdict, on a null of made-up clean nets: what is called what, and when nothing more is claimed."""

import math
from dataclasses import replace

import pytest

from app.contract.findings import Verdict, VerdictLabel
from app.contract.options import EvidenceOptions
from worker.detectors.null import CORROBORATION, CleanNet, Null, line_at, p_value, shipped
from worker.detectors.target_label import Pull, strongest
from worker.detectors.verdict import (
    MOVEMENT,
    RECALLED,
    SHIFT,
    SHORTCUT,
    SIZE,
    TOGETHER,
    UNLEARNING,
    Heard,
    judge,
)

CLASSES = 10


def words(loudest: float, others: float, at: int = 3) -> dict[int, float]:
    return {k: loudest if k == at else others for k in range(CLASSES)}


def made_up(nets: int = 20) -> tuple[CleanNet, ...]:
    """Net i is loudest about class i mod 10, a little louder with every i."""
    return tuple(
        CleanNet(
            name=f"clean-{i}",
            digest=f"sha256:{i}",
            architecture="made up",
            accuracy=0.9,
            said={
                SHIFT: words(0.3 + i / 100, 0.0, i % CLASSES),
                MOVEMENT: words(math.log(1.5) + i / 100, 0.0, (i + 3) % CLASSES),
                SIZE: words(-math.log(0.7) + i / 100, 0.0, (i + 6) % CLASSES),
                SHORTCUT: words(-math.log(0.9) + i / 1000, 0.0, (i + 8) % CLASSES),
                RECALLED: words(0.1 + i / 100, 0.0, (i + 2) % CLASSES),
            },
        )
        for i in range(nets)
    )


def pull(loudest: float, at: int, others: float = 0.1) -> Pull:
    return strongest([loudest if k == at else others for k in range(CLASSES)])


def heard(
    shift: float = 0.3, movement: float = 1.5, size: float = 0.7, at: tuple[int, int, int] = (3, 3, 3)
) -> Heard:
    return Heard(
        pull(shift, at[0]),
        pull(movement, at[1], 1.0),
        {k: size if k == at[2] else 1.0 for k in range(CLASSES)},
        [1.0] * CLASSES,
        CLASSES,
        250,
    )


def told(given: Heard, **options: float) -> Verdict:
    return judge(given, EvidenceOptions.model_validate(options), made_up())


def test_the_weights_say_what_each_witness_adds_to_the_sum() -> None:
    verdict = told(heard(shift=1.1, movement=4.0, size=0.5, at=(3, 6, 3)))
    *witnesses, together = verdict.signals
    assert together.target_class == 3
    assert together.weight is None
    assert sum(signal.weight or 0 for signal in witnesses) == pytest.approx(together.value)
    weight = {signal.name: signal.weight or 0.0 for signal in witnesses}
    assert weight[SHIFT] > 0 < weight[SIZE]
    assert weight[MOVEMENT] == 0, "it speaks of another class"


def test_unlearning_counts_at_most_twice_what_the_perturbations_say_about_the_same_class() -> None:
    """However loud a fall is."""
    by = {shift: told(heard(shift=shift, movement=4.0, size=0.55)).signals for shift in (0.0, 0.5, 1.1, 50.0)}
    weights = {shift: {s.name: s.weight or 0.0 for s in signals} for shift, signals in by.items()}
    for said in weights.values():
        assert said[SHIFT] + said[MOVEMENT] <= CORROBORATION * said[SIZE] + 1e-9
    assert weights[50.0][SHIFT] + weights[50.0][MOVEMENT] == pytest.approx(
        CORROBORATION * weights[50.0][SIZE]
    )
    assert by[1.1][-1].value == pytest.approx(by[50.0][-1].value)


def test_features_that_hold_two_classes_near_accuse_neither_where_no_perturbation_does() -> None:
    """A clean net of another architecture: its cars look like trucks, whose row moves far in unlearning."""
    near = [0.6 if k == 3 else 1.0 for k in range(CLASSES)]
    alone = told(replace(heard(movement=5, size=1.0), shortcuts=near))
    assert (alone.label, alone.target_classes) == (VerdictLabel.INCONCLUSIVE, ())
    assert alone.signals[-1].value == 0
    by_themselves = judge(
        replace(heard(size=1.0), shortcuts=near), EvidenceOptions(), made_up(), corroborating=UNLEARNING
    )
    assert by_themselves.target_classes == (3,)
    joined = told(replace(heard(size=0.5), shortcuts=near))
    weights = {signal.name: signal.weight or 0.0 for signal in joined.signals}
    assert weights[SHORTCUT] == pytest.approx(CORROBORATION * weights[SIZE])


def loud_twice() -> Heard:
    """Two classes with a shortcut each, 4 with the smaller one."""
    sizes = {k: {3: 0.2, 4: 0.1}.get(k, 1.0) for k in range(CLASSES)}
    return replace(heard(shift=1.2, movement=6, at=(3, 4, 0)), sizes=sizes)


@pytest.mark.parametrize(
    ("given", "label", "targets"),
    [
        (heard(), VerdictLabel.CLEAN, ()),
        (heard(shift=1.2), VerdictLabel.INCONCLUSIVE, ()),
        (heard(movement=5), VerdictLabel.INCONCLUSIVE, ()),
        (heard(shift=1.2, movement=5), VerdictLabel.INCONCLUSIVE, ()),
        (heard(size=0.1), VerdictLabel.BACKDOORED, (3,)),
        (heard(0.47, 1.78, 0.59), VerdictLabel.BACKDOORED, (3,)),
        (heard(0.47, 1.78, 0.59, at=(3, 4, 5)), VerdictLabel.INCONCLUSIVE, ()),
        (loud_twice(), VerdictLabel.BACKDOORED, (4, 3)),
        (heard(shift=3.0, size=0.1, at=(3, 4, 5)), VerdictLabel.BACKDOORED, (5,)),
    ],
    ids=[
        "typical",
        "fall",
        "row",
        "fall and row, which are one",
        "shortcut",
        "three agree",
        "three differ",
        "two targets",
        "a shortcut, and a fall elsewhere without one",
    ],
)
def test_one_loud_perturbation_suffices_and_so_do_several_witnesses_that_agree(
    given: Heard, label: VerdictLabel, targets: tuple[int, ...]
) -> None:
    verdict = told(given)
    assert (verdict.label, verdict.target_classes) == (label, targets)
    assert verdict.signals[-1].name == TOGETHER


def test_the_rate_of_false_alarms_is_that_of_the_clean_nets() -> None:
    assert told(heard(size=0.1)).false_alarms == pytest.approx(1 / 21)
    assert told(heard(0.0, 1.0, 1.0)).false_alarms == 1


def test_between_the_lines_a_model_is_suspicious_or_nothing_is_said() -> None:
    clean = Null(tuple(net.said for net in made_up())).of_the_nets()
    assert p_value(clean[-1], clean) == pytest.approx(2 / 21)
    assert told(heard(size=0.1), false_alarms=0.01).label is VerdictLabel.SUSPICIOUS
    assert told(heard(size=0.1), false_alarms=0.01, suspicion=0.02).label is VerdictLabel.INCONCLUSIVE


@pytest.mark.parametrize(
    "given",
    [
        Heard(pull(1.2, 3), pull(5, 3), {3: 0.1, 4: 1.0}, [], 100, 250),
        Heard(pull(1.2, 3), pull(5, 3), {3: 0.1, 4: 1.0}, [], CLASSES, 250, pixels=224),
        Heard(pull(1.2, 3), pull(5, 3), {3: 0.1, 4: 1.0}, [], CLASSES, 250, absent=(7,)),
        Heard(pull(1.2, 3), pull(5, 3), {3: 0.1, 4: 1.0}, [], CLASSES, 10),
        Heard(None, None, {k: 0.1 if k == 3 else 1.0 for k in range(CLASSES)}, [], CLASSES, 250),
    ],
    ids=["many classes", "large images", "a class without images", "few images", "no unlearning"],
)
def test_where_the_null_does_not_speak_nothing_is_called_backdoored_or_clean(given: Heard) -> None:
    verdict = told(given)
    assert verdict.label is VerdictLabel.SUSPICIOUS
    assert "No more is claimed" in verdict.because
    quiet = replace(
        given, shift=given.shift and pull(0.0, 3), movement=given.movement and pull(1, 3), sizes={}
    )
    if quiet.said:
        assert told(quiet).label is VerdictLabel.INCONCLUSIVE


@pytest.mark.parametrize("classes", [2, 3])
def test_where_few_classes_are_compared_nobody_is_accused(classes: int) -> None:
    """Clean nets of two and three classes had sums of 4 to 21: one class is compared with one other."""
    verdict = told(Heard(pull(1.2, 1), pull(5, 1), {0: 1.0, 1: 0.1}, [], classes, 250))
    assert (verdict.label, verdict.target_classes) == (VerdictLabel.INCONCLUSIVE, ())
    assert "fewer than four" in verdict.because


def test_a_class_without_images_is_named_by_no_witness_that_would_name_it_on_a_clean_net() -> None:
    loud = Heard(pull(1.2, 3), pull(9, 3), dict.fromkeys(range(CLASSES), 1.0), [], CLASSES, 250, pull(0.9, 3))
    assert told(loud).target_classes == (3,)
    without = replace(loud, absent=(3,))
    assert told(without).target_classes == ()
    assert told(without).label is VerdictLabel.INCONCLUSIVE
    assert 3 not in without.said[SHIFT].keys() | without.said[MOVEMENT].keys() | without.said[RECALLED].keys()
    several = told(replace(loud, sizes={**loud.sizes, 4: 0.1}, absent=(3, 5)))
    assert (several.label, several.target_classes) == (VerdictLabel.INCONCLUSIVE, ())
    assert "Give images of every class" in several.because
    assert 3 in without.said[SIZE], "a small perturbation into it is evidence all the same"


def test_too_small_a_null_claims_nothing() -> None:
    loud = judge(heard(size=0.1), EvidenceOptions(), made_up(8))
    assert (loud.label, loud.false_alarms) == (VerdictLabel.INCONCLUSIVE, pytest.approx(1 / 9))
    assert loud.signals[-1].threshold is None
    assert not any(signal.fires for signal in loud.signals)


def test_no_witness_says_nothing() -> None:
    verdict = told(Heard(None, None, {}, [], CLASSES, 250))
    assert (verdict.label, verdict.signals, verdict.false_alarms) == (VerdictLabel.INCONCLUSIVE, (), None)


def test_signals_speak_in_their_own_units_and_fire_beyond_their_line() -> None:
    signals = {signal.name: signal for signal in told(heard(shift=1.2, size=0.9)).signals}
    assert signals[SHIFT].value == pytest.approx(1.2)
    assert signals[SHIFT].fires
    assert signals[SIZE].value == pytest.approx(0.9)
    assert (signals[SIZE].fires_when, signals[SIZE].fires) == ("below", False)
    assert signals[SIZE].threshold == pytest.approx(0.7 / math.exp(0.18))
    assert signals[MOVEMENT].null_values == pytest.approx([1.5 * math.exp(i / 100) for i in range(20)])


@pytest.mark.parametrize("rate", [0.04, 0.05, 0.1, 0.5, 0.95])
def test_a_line_is_where_the_p_value_begins(rate: float) -> None:
    null = [float(i) for i in range(20)]
    line = line_at(rate, null)
    below = [score for score in (i / 2 for i in range(-2, 44)) if p_value(score, null) <= rate]
    if line is None:
        assert not below
    else:
        assert min(below) > line
        assert p_value(line, null) > rate


def test_the_shipped_null_has_every_witness_of_every_net_but_for_some_that_recall_nothing() -> None:
    assert len({net.digest for net in shipped()}) == len(shipped())
    recalling = [net for net in shipped() if RECALLED in net.said]
    assert 1 / (1 + len(recalling)) <= EvidenceOptions().false_alarms, "enough for the rate that is stated"
    for net in shipped():
        assert {SHIFT, MOVEMENT, SIZE, SHORTCUT} == set(net.said) - {RECALLED}
        assert all(set(words) == set(range(CLASSES)) for words in net.said.values())


def recalling(value: float, given: Heard | None = None) -> Verdict:
    return told(replace(given or heard(), recalled=pull(value, 5, 0.0)))


def test_what_the_statistics_recall_accuses_by_itself() -> None:
    verdict = recalling(0.9)
    assert (verdict.label, verdict.target_classes) == (VerdictLabel.BACKDOORED, (5,))
    *_, recalled, together = verdict.signals
    assert (recalled.name, recalled.fires, recalled.target_class) == (RECALLED, True, 5)
    assert recalled.weight == pytest.approx(together.value), "nothing else speaks of that class"


def test_what_the_statistics_of_clean_nets_recall_accuses_nobody() -> None:
    assert recalling(0.15).label is VerdictLabel.CLEAN
    between = recalling(0.24)
    assert (between.label, between.signals[-2].fires) == (VerdictLabel.INCONCLUSIVE, False)


def test_a_perturbation_accuses_where_the_statistics_recall_nothing_or_something_else() -> None:
    for loud in (recalling(0.0, heard(size=0.1)), told(heard(size=0.1))):
        assert (loud.label, loud.target_classes) == (VerdictLabel.BACKDOORED, (3,))
    assert set(recalling(0.9, heard(size=0.1)).target_classes) <= {3, 5}


def test_the_statistics_say_no_more_than_suspicious_where_the_clean_nets_do_not_stand_for_a_model() -> None:
    for given in (
        replace(heard(), images=10),
        replace(heard(), num_classes=100),
        Heard(None, None, {}, [], CLASSES, 250),
    ):
        assert recalling(0.9, given).label is VerdictLabel.SUSPICIOUS
