"""What a job found, as plain text for a terminal."""

from app.contract.curation import Curation
from app.contract.report import Report
from app.contract.screening import Screening
from app.reports import curated, screened, wording


def summary(report: Report | Screening | Curation) -> str:
    """One paragraph of a model, or the first of the images."""
    match report:
        case Screening():
            return screened.summary(report)
        case Curation():
            return curated.summary(report)
        case Report():
            return wording.summary(report)
