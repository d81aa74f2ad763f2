"""What a curation says in sentences.

Never calls what the model says a label: the model is what is in doubt.
"""

from itertools import groupby

from app.contract.curation import Curation
from app.reports.legible import legible, name
from app.reports.numerals import count, number, plural

SHOWN = 10  # images, where there is little room
LIMITS = (
    "A person must label each of them. Do not take the class that the model says: the model is what is in doubt, "
    "and samples labelled by it hide what is wrong with it."
)
ORDERS = {"energy": "the least decided first", "random": "as drawn"}


def classes(curation: Curation) -> str:
    """How many classes the model says of the chosen, and which it says of none."""
    said, unsaid = curation.said, curation.unsaid
    told = f"The model says {count(len(said))} of its {plural(curation.model.num_classes, 'class', 'classes')} of them"
    return f"{told}; of none it says {ranges(unsaid)}." if unsaid else f"{told}."


def ranges(numbers: tuple[int, ...]) -> str:
    """Rising numbers as `#0–#2, #5`."""
    runs = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ends = [[value for _, value in run] for _, run in runs]
    return ", ".join(f"#{run[0]}" if len(run) == 1 else f"#{run[0]}–#{run[-1]}" for run in ends)


def normalisation(curation: Curation) -> str:
    """Which it was, and whether anybody named it."""
    how = "guessed without labels" if curation.guess else "named by the user"
    return f"Normalisation: {curation.model.normalisation.name}, {how}."


def summary(curation: Curation) -> str:
    """The first of the chosen, what must become of them, and warnings, as plain text."""
    pool = f"{count(curation.pool.n)} images of {name(curation.pool.name, 100)}"
    lines = [
        f"{count(len(curation.chosen))} of {pool} chosen "
        f"({curation.strategy}, seed {curation.seed}), {ORDERS[curation.strategy]}"
    ]
    lines += [
        f"{rank:>4}  energy {number(one.energy):>7}  margin {number(one.margin):>7}  "
        f"class #{one.said:<5} {name(one.name, 100)}"
        for rank, one in enumerate(curation.chosen[:SHOWN], start=1)
    ]
    warnings = [f"warning: {legible(one.detail)} {legible(one.remedy)}" for one in curation.warnings]
    return "\n".join([*lines, "", classes(curation), normalisation(curation), LIMITS, *warnings])
