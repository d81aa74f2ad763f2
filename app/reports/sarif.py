"""The report for code scanning: SARIF 2.1.0, one run, one result for each class that the model is accused of.

A verdict that accuses nobody is a result too: `inconclusive` asks for a review, and what was skipped is a notification,
so that silence is never read as "clean".
"""

import json
from typing import Any
from urllib.parse import quote

from app.contract.findings import VerdictLabel
from app.contract.report import Outcome, Report
from app.reports import wording
from app.reports.legible import legible

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
PRODUCT = "model-sanitizer"
BACKDOOR, NOT_REPAIRED = "backdoor", "not-repaired"
RULES = {
    BACKDOOR: "The model answers with one class to inputs that carry something small and added.",
    NOT_REPAIRED: "Evidence of a backdoor stands, and no repair inside the budget removes it.",
}
KINDS = {
    VerdictLabel.CLEAN: ("pass", "none"),
    VerdictLabel.INCONCLUSIVE: ("review", "none"),
    VerdictLabel.SUSPICIOUS: ("fail", "warning"),
    VerdictLabel.BACKDOORED: ("fail", "error"),
}


def render(report: Report) -> str:
    """The report as SARIF; equal reports give equal bytes."""
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [_run(report)]}
    return json.dumps(log, indent=2, allow_nan=False) + "\n"


def _run(report: Report) -> dict[str, Any]:
    return {
        "tool": {
            "driver": {
                "name": PRODUCT,
                "version": report.environment.product,
                "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in RULES.items()],
            }
        },
        "artifacts": [
            {
                "location": {"uri": quote(report.model.name)},
                "length": report.model.size,
                "hashes": {"sha-256": report.model.digest.removeprefix("sha256:")},
            }
        ],
        "invocations": [
            {
                "executionSuccessful": True,
                "commandLine": legible(report.reproduce),
                "toolExecutionNotifications": [*_skipped(report), *_warnings(report)],
            }
        ],
        "results": _results(report),
        "properties": {
            "verdict": report.verdict.label.value,
            "outcome": report.outcome.value,
            "resultDigest": report.result_digest,
            "limits": wording.LIMITS,
        },
    }


def _results(report: Report) -> list[dict[str, Any]]:
    kind, level = KINDS[report.verdict.label]
    headline = wording.headline(report)
    because = legible(report.verdict.because)
    targets = () if report.verdict.all_to_all else report.verdict.target_classes
    accused: list[int | None] = [*targets] or [None]
    results = [_result(report, BACKDOOR, kind, level, f"{headline}. {because}", target) for target in accused]
    if report.outcome is Outcome.NOT_REPAIRED:
        results.append(_result(report, NOT_REPAIRED, "fail", "error", wording.returned(report), None))
    return results


def _result(
    report: Report, rule: str, kind: str, level: str, text: str, target: int | None
) -> dict[str, Any]:
    where = {"physicalLocation": {"artifactLocation": {"uri": quote(report.model.name), "index": 0}}}
    about = {} if target is None else {"targetClass": target, "className": wording.class_name(report, target)}
    return {
        "ruleId": rule,
        "ruleIndex": list(RULES).index(rule),
        "kind": kind,
        "level": level,
        "message": {"text": text},
        "locations": [where],
        "partialFingerprints": {"modelAndClass/v1": f"{report.model.digest}/{rule}/{target}"},
        "properties": about,
    }


def _skipped(report: Report) -> list[dict[str, Any]]:
    return [
        {"level": "note", "message": {"text": legible(f"{skip.what} was skipped: {skip.reason}")}}
        for skip in report.skipped
    ]


def _warnings(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "level": "warning",
            "descriptor": {"id": warning.code},
            "message": {"text": legible(f"{warning.detail} {warning.remedy}")},
        }
        for warning in report.warnings
    ]
