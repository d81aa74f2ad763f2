"""The bill of materials of the model that is given back: CycloneDX 1.6, one component with its model card."""

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from app.attestation.statement import ASSURANCE, PRODUCT, as_bytes
from app.contract.report import Estimate, Report

SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
MEDIA_TYPE = "application/vnd.cyclonedx+json"
REPORTING = "clean samples that taught nothing and whose accuracy chose nothing"
TRIGGERED = "triggered samples of other classes than the target"


def render(report: Report) -> bytes:
    """The bill of materials; equal reports give equal bytes."""
    identity = f"{report.model.digest} {report.result_digest} {report.samples.digest} {report.seed}"
    return as_bytes(
        {
            "$schema": SCHEMA,
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'urn:{PRODUCT}:{identity}')}",
            "version": 1,
            "metadata": {
                "tools": {"components": [_application(report)]},
                "component": _model(report),
            },
        }
    )


def _application(report: Report) -> dict[str, Any]:
    return {
        "type": "application",
        "name": PRODUCT,
        "version": report.environment.product,
        "components": [
            {
                "type": "library",
                "name": "torch",
                "version": report.environment.torch,
                "purl": f"pkg:pypi/torch@{report.environment.torch.partition('+')[0]}",
            }
        ],
    }


def _model(report: Report) -> dict[str, Any]:
    return {
        **_file(report.model.name, report.result_digest),
        **_pedigree(report),
        "modelCard": {
            "modelParameters": _parameters(report),
            "quantitativeAnalysis": {"performanceMetrics": _metrics(report)},
            "considerations": {"technicalLimitations": _limitations(report)},
        },
        "properties": _properties(report),
    }


def _file(name: str, digest: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": digest,
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": _hex(digest)}],
    }


def _pedigree(report: Report) -> dict[str, Any]:
    """The suspect model as ancestor; a model that came back as it was is its own, and has none."""
    if report.result_digest == report.model.digest:
        return {}
    ancestor = _file(report.model.name, report.model.digest)
    notes = f"{report.repair.method}: {report.repair.reason}"
    return {"pedigree": {"ancestors": [ancestor], "notes": notes}}


def _parameters(report: Report) -> dict[str, Any]:
    return {
        "task": "image-classification",
        "architectureFamily": "convolutional neural network",
        "modelArchitecture": report.model.architecture,
        "datasets": [
            {
                "type": "dataset",
                "name": report.samples.name,
                "description": f"{report.samples.n} clean samples that the work was done with, {report.samples.digest}",
            }
        ],
        "inputs": [{"format": "image"}],
        "outputs": [{"format": f"one of {report.model.num_classes} classes"}],
    }


def _metrics(report: Report) -> list[dict[str, Any]]:
    measured = report.metrics
    pairs = {
        "clean accuracy": (measured.clean_accuracy, REPORTING),
        "attack success rate": (measured.attack_success, TRIGGERED),
        "robust accuracy": (measured.robust_accuracy, TRIGGERED),
    }
    return [
        _metric(name, estimate, f"{side}; {where}; n = {estimate.n}")
        for name, (pair, where) in pairs.items()
        if pair is not None
        for side, estimate in (("suspect model", pair.before), ("this model", pair.after))
    ]


def _metric(name: str, estimate: Estimate, where: str) -> dict[str, Any]:
    return {
        "type": name,
        "value": str(estimate.value),
        "slice": where,
        "confidenceInterval": {"lowerBound": str(estimate.low), "upperBound": str(estimate.high)},
    }


def _limitations(report: Report) -> list[str]:
    return [
        ASSURANCE,
        f"Verdict on the suspect model: {report.verdict.label.value}. {report.verdict.because}",
        *(f"{skipped.what} was skipped: {skipped.reason}" for skipped in report.skipped),
        *(warning.detail for warning in report.warnings),
    ]


def _properties(report: Report) -> list[dict[str, str]]:
    model = report.model
    facts = {
        "format": model.format,
        "parameters": model.parameters,
        "inputShape": "x".join(map(str, model.input_shape)),
        "normalisation": model.normalisation.name,
        "verdict": report.verdict.label.value,
        "outcome": report.outcome.value,
        "seed": report.seed,
    }
    return [{"name": f"{PRODUCT}:{name}", "value": str(value)} for name, value in facts.items()]


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
