"""The ladder of repairs beyond pruning, and who judges it: what choosing asks of the rest of the pipeline."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from torch import nn

from app.contract.options import SanitizeOptions
from worker.pipelines.examine import Examined
from worker.pipelines.inputs import Loaded
from worker.pipelines.verify import evidence_left
from worker.progress import SILENT, Progress
from worker.repair.evidence import Remaining
from worker.repair.gate import Considered
from worker.repair.operating_point import Round, Rungs, Way
from worker.repair.pursuit import Follower
from worker.repair.relearn import partway, relearn
from worker.rnp.masks import Filter
from worker.samples.interface import SampleSet

LEAST_HELD = 20  # images that report; fewer cannot be asked what is left once those that selected have taught


def ladder(
    loaded: Loaded, examined: Examined, options: SanitizeOptions, progress: Progress = SILENT
) -> Rungs:
    """Relearning in rounds, against all that accuses the suspect; what accuses a relearned model joins the next round.

    Without steps, or without anything to teach, pruning is all there is.
    """
    suspect, parts = loaded.suspect, loaded.parts
    dtypes = {name: loaded.model.stored_dtype(name) for name, _ in suspect.module.named_parameters()}
    adversaries = list(examined.accused(options.evidence))

    def left(repair: Considered) -> Remaining:
        held = replace(parts, select=parts.report) if repair.taught_again else parts
        repaired = suspect.with_module(repair.module(suspect))
        remaining = evidence_left(repaired, examined, held, options, progress)
        adversaries.extend(remaining.another)
        return remaining

    def relearned(dead: tuple[Filter, ...], manner: Round) -> Way | None:
        def followers() -> tuple[Follower, ...]:
            return () if manner == "recovered" else examined.followers(options.evidence, suspect.placement)

        if manner == "followers" and not followers():
            return None  # it would be the first round again
        gently = options.relearn.gently.model_dump() if manner == "gently" else {}
        told = options.relearn.model_copy(update=gently)

        def taught_by(images: SampleSet) -> Callable[[float], nn.Module]:
            @cache  # they are long to teach, and asked for at several shares
            def whole() -> nn.Module:
                seed, ways = options.seed, tuple(adversaries)
                return relearn(suspect, dead, images, ways, dtypes, told, seed, progress, followers())

            return lambda share: whole() if share == 1 else partway(suspect, dead, whole(), share, dtypes)

        again = len(parts.report) >= LEAST_HELD
        return Way(taught_by(parts.fit), taught_by(parts.teaching) if again else None)

    return Rungs(
        left,
        relearned if options.relearn.steps and adversaries else None,
        suppressing_suffices=examined.expressed(options),
        shares=options.relearn.shares,
        quiet=options.evidence.quiet,
    )
