"""What a job says, for programs: fields in the order of the model, and plain ASCII."""

import json

from app.contract.curation import Curation
from app.contract.report import Report
from app.contract.screening import Screening


def render(report: Report | Screening | Curation) -> str:
    """The report as JSON; equal reports give equal bytes.

    Raises `ValueError` rather than write NaN or infinity, which JSON does not know. Everything beyond ASCII is
    escaped, so that a class name cannot drive the terminal of whoever prints the file.
    """
    return json.dumps(report.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"
