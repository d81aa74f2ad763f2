"""The ladder of repairs beyond pruning, and who judges it: what choosing asks of the rest of the pipeline."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from torch import nn

from app.contract.options import RelearnOptions, SanitizeOptions
from worker.pipelines.examine import Examined
from worker.pipelines.inputs import Loaded
from worker.pipelines.verify import evidence_left
from worker.progress import SILENT, Progress
from worker.repair.evidence import Remaining
from worker.repair.gate import WHOLE, Considered, Length
from worker.repair.operating_point import Round, Rungs, Way
from worker.repair.pursuit import Follower
from worker.repair.relearn import partway, relearn
from worker.rnp.masks import Filter
from worker.samples.interface import SampleSet

LEAST_HELD = 20  # reporting images of other classes than an accused one; fewer cannot tell 5 % from nothing


def ladder(
    loaded: Loaded, examined: Examined, options: SanitizeOptions, progress: Progress = SILENT
) -> Rungs:
    """Relearning in rounds, against all that accuses the suspect; what accuses a relearned model joins the next round.

    Without steps, or without anything to teach, pruning is all there is.
    """
    suspect, parts = loaded.suspect, loaded.parts
    dtypes = {name: loaded.model.stored_dtype(name) for name, _ in suspect.module.named_parameters()}
    adversaries, teaching = list(examined.accused(options.evidence)), parts.teaching
    held = min(int((parts.report.labels != k).sum()) for k in examined.aims)

    def left(repair: Considered) -> Remaining:
        untaught = replace(parts, select=parts.report) if repair.candidate.taught_again else parts
        repaired = suspect.with_module(repair.module(suspect))
        remaining = evidence_left(repaired, examined, untaught, options, progress)
        adversaries.extend(remaining.another)
        return remaining

    def followers() -> tuple[Follower, ...]:
        return examined.followers(options.evidence, suspect.placement)

    def relearned(dead: tuple[Filter, ...], manner: Round) -> Way | None:
        if manner == "followers" and not followers():
            return None  # it would be the first round again
        gently = options.relearn.gently.model_dump() if manner == "gently" else {}
        told, ways = options.relearn.model_copy(update=gently), tuple(adversaries)

        def taught_by(images: SampleSet) -> Callable[[Length], nn.Module]:
            @cache  # they are long to teach, and asked for at several shares
            def end(rate: float, depth: float) -> nn.Module:
                slowly = told.model_copy(update={"lr": rate * told.lr})
                pursuers = () if manner == "recovered" else followers()
                return relearn(
                    suspect, dead, images, ways, dtypes, slowly, options.seed, progress, pursuers, depth
                )

            def at(length: Length) -> nn.Module:
                whole = end(length.rate, length.depth)
                return whole if length.share == 1 else partway(suspect, dead, whole, length.share, dtypes)

            return at

        return Way(taught_by(parts.fit), taught_by(teaching) if held >= LEAST_HELD else None)

    return Rungs(
        left,
        relearned if options.relearn.steps and adversaries else None,
        suppressing_suffices=examined.expressed(options),
        lengths=lengths(options.relearn),
        quiet=options.evidence.quiet,
    )


def lengths(options: RelearnOptions) -> tuple[Length, ...]:
    """How far relearning goes: all the way, then with the first layers alone, more slowly, and less and less of that.

    The last layers cost most and remove least (decision 37): of a blend the first half of them left 2 % and cost 0.7
    points, all of them 1 % and 2.0; 70 % of the way of all cost as much and left the backdoor asleep. Where the first
    leave evidence all of them go as far as is affordable.
    """
    ends = [Length(depth=depth) for depth in (WHOLE.depth, options.depth) if WHOLE.share in options.shares]
    less = [
        Length(options.slower, share, depth)
        for depth in (options.depth, WHOLE.depth)
        for share in options.shares
    ]
    return tuple(dict.fromkeys((*ends, *less)))
