"""SARIF as the readers of code scanning want it, for every verdict and outcome."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from app.contract.findings import VerdictLabel
from app.contract.report import Outcome, Report
from app.reports import sarif

Make = Callable[..., Report]


def thing(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "required": list(required),
        "properties": required | optional,
        "additionalProperties": False,
    }


TEXT = {"type": "string", "minLength": 1}
ANY = {"type": "object"}
MESSAGE = thing({"text": TEXT})
URI = {"type": "string", "pattern": r"^[A-Za-z0-9_.%/~-]+$"}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
NOTICE = thing({"level": LEVEL, "message": MESSAGE}, descriptor=thing({"id": TEXT}))
RESULT = thing(
    {
        "ruleId": TEXT,
        "ruleIndex": {"type": "integer", "minimum": 0},
        "kind": {"enum": ["notApplicable", "pass", "fail", "review", "open", "informational"]},
        "level": LEVEL,
        "message": MESSAGE,
        "locations": {
            "type": "array",
            "minItems": 1,
            "items": thing(
                {"physicalLocation": thing({"artifactLocation": thing({"uri": URI, "index": {"const": 0}})})}
            ),
        },
        "partialFingerprints": {"type": "object", "additionalProperties": TEXT},
        "properties": ANY,
    }
) | {
    # §3.27.10: what is no failure has no level
    "if": {"properties": {"kind": {"const": "fail"}}},
    "then": {"properties": {"level": {"enum": ["warning", "error"]}}},
    "else": {"properties": {"level": {"const": "none"}}},
}
RULE = thing({"id": TEXT, "shortDescription": MESSAGE})
RUN = thing(
    {
        "tool": thing(
            {"driver": thing({"name": TEXT, "version": TEXT, "rules": {"type": "array", "items": RULE}})}
        ),
        "artifacts": {
            "type": "array",
            "items": thing(
                {
                    "location": thing({"uri": URI}),
                    "length": {"type": "integer", "minimum": -1},
                    "hashes": thing({"sha-256": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}),
                }
            ),
        },
        "invocations": {
            "type": "array",
            "items": thing(
                {
                    "executionSuccessful": {"type": "boolean"},
                    "commandLine": TEXT,
                    "toolExecutionNotifications": {"type": "array", "items": NOTICE},
                }
            ),
        },
        "results": {"type": "array", "minItems": 1, "items": RESULT},
        "properties": ANY,
    }
)
SARIF = thing(
    {"$schema": TEXT, "version": {"const": "2.1.0"}, "runs": {"type": "array", "minItems": 1, "items": RUN}}
)


@pytest.mark.parametrize("label", VerdictLabel)
@pytest.mark.parametrize("outcome", Outcome)
def test_every_report_is_sarif(make: Make, label: VerdictLabel, outcome: Outcome) -> None:
    log = json.loads(sarif.render(make(label=label, outcome=outcome, model_name="ä b'<.pt")))
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_the_tool_is_named_with_the_version_that_made_the_report(make: Make) -> None:
    (run,) = json.loads(sarif.render(make()))["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("model-sanitizer", make().environment.product)


def results(report: Report) -> list[tuple[str, str, str]]:
    (run,) = json.loads(sarif.render(report))["runs"]
    return [(result["ruleId"], result["kind"], result["level"]) for result in run["results"]]


def test_what_was_found_stays_a_finding_of_the_model_that_was_uploaded(make: Make) -> None:
    assert results(make()) == [("backdoor", "fail", "error")]
    assert results(make(outcome=Outcome.NOT_REPAIRED, label=VerdictLabel.SUSPICIOUS)) == [
        ("backdoor", "fail", "warning"),
        ("not-repaired", "fail", "error"),
    ]


def test_an_all_to_all_backdoor_is_one_finding(make: Make) -> None:
    found = make()
    classes = found.verdict.model_copy(update={"target_classes": (0, 1, 2)})
    each = classes.model_copy(update={"all_to_all": True})
    assert len(results(found.model_copy(update={"verdict": classes}))) == 3
    assert results(found.model_copy(update={"verdict": each})) == [("backdoor", "fail", "error")]


def test_inconclusive_is_not_clean(make: Make) -> None:
    report = make(outcome=Outcome.UNCHANGED, label=VerdictLabel.INCONCLUSIVE)
    assert results(report) == [("backdoor", "review", "none")]
    (run,) = json.loads(sarif.render(report))["runs"]
    notices = run["invocations"][0]["toolExecutionNotifications"]
    assert len(notices) == len(report.skipped) + len(report.warnings)
