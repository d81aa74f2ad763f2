"""What a job found, as plain text for a terminal."""

from app.contract.report import Report
from app.contract.screening import Screening
from app.reports import screened, wording


def summary(report: Report | Screening) -> str:
    """One paragraph of a model, or the first of the inputs."""
    return screened.summary(report) if isinstance(report, Screening) else wording.summary(report)
