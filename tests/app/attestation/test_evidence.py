"""What is written beside a result: readable by the tools of others, and equal for equal runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_signing
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from app.attestation import evidence, mlbom, names, signing
from app.contract.findings import VerdictLabel
from app.contract.report import Outcome, Report

Make = Callable[..., Report]
Leave = Callable[..., Path]
FILES = {"model.safetensors": f"sha256:{'d' * 64}"}


def test_model_signing_verifies_a_folder_of_ours_and_no_other(leave: Leave, key: Any, keys: Any) -> None:
    folder = leave(key)
    verifying = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys.public)
    verifying.verify(folder, folder / names.FOLDER_SIGNATURE)
    (folder / "report.json").write_text("{}")
    with pytest.raises(ValueError, match=r"Hash mismatch for .*report\.json"):
        verifying.verify(folder, folder / names.FOLDER_SIGNATURE)


def test_the_statement_is_one_of_in_toto_and_never_says_clean(make: Make) -> None:
    report = make()
    made = evidence.make(report, FILES, None)
    statement = json.loads(made[names.STATEMENT])
    Statement.copy_from_pb(json_format.Parse(made[names.STATEMENT], StatementMessage())).validate()
    assert [subject["name"] for subject in statement["subject"]] == ["mlbom.json", "model.safetensors"]
    told = statement["predicate"]
    assert told["inputs"][0]["digest"] == {"sha256": report.model.digest.removeprefix("sha256:")}
    assert told["seed"] == report.seed
    assert told["options"] == report.options.model_dump(mode="json")
    assert told["metrics"]["attack_success"] == report.metrics.attack_success.model_dump(mode="json")  # type: ignore[union-attr]
    assert (told["verdict"]["label"], told["outcome"]) == ("backdoored", "repaired")
    assert "does not say that the model is clean" in told["assurance"]


def test_equal_runs_give_equal_evidence(make: Make) -> None:
    later = make().model_copy(update={"timings": {"total_s": 1.0}})
    assert evidence.make(make(), FILES, None) == evidence.make(later, FILES, None)


@pytest.mark.parametrize("label", VerdictLabel)
@pytest.mark.parametrize("outcome", Outcome)
def test_the_bill_of_materials_follows_its_schema(make: Make, label: VerdictLabel, outcome: Outcome) -> None:
    report = make(label=label, outcome=outcome, model_name="ä b'<.pt")
    data = mlbom.render(report).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data) is None
    model = json.loads(data)["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["modelCard"]["modelParameters"]["modelArchitecture"] == report.model.architecture
    if outcome is Outcome.REPAIRED:
        (ancestor,) = model["pedigree"]["ancestors"]
        assert f"sha256:{ancestor['hashes'][0]['content']}" == report.model.digest
    else:
        assert "pedigree" not in model


def test_a_bundle_goes_there_and_back(key: Any) -> None:
    bundle = signing.read_bundle(signing.sign(b"payload" * 50, key))
    assert bundle.dsse_envelope.payload == b"payload" * 50
    assert signing.is_signed_by(bundle, key.public_key())
