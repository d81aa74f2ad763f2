"""What a pipeline should do after a job."""

from app.contract.curation import Curation
from app.contract.findings import VerdictLabel
from app.contract.report import Outcome, Report
from app.contract.screening import Screening
from app.errors import ExitCode
from app.reports.screened import more_than_chance


def exit_code(report: Report | Screening | Curation) -> ExitCode:
    """Go on, stop, or ask a person."""
    if isinstance(report, Curation):
        return ExitCode.OK  # nothing is said of the model
    if isinstance(report, Screening):
        return ExitCode.FINDINGS if more_than_chance(report) else ExitCode.OK
    if report.outcome is Outcome.REPAIRED or report.verdict.label is VerdictLabel.CLEAN:
        return ExitCode.OK
    if report.verdict.label is VerdictLabel.INCONCLUSIVE:
        return ExitCode.INCONCLUSIVE
    return ExitCode.FINDINGS
