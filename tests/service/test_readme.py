"""The four lines of the README, as they stand there, against a server of their own."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx2

from tests.service.conftest import QUICK, ROOT, Server, until


def lines() -> list[str]:
    (block,) = (
        block
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        if "/v1/jobs" in block
    )
    return block.strip().splitlines()


def test_the_four_lines_of_the_readme_give_a_report_and_a_model(own_server: Server, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    own_server.start()
    job_id = "none yet"

    def shell(line: str) -> str:
        told = line.replace("localhost:8000", f"localhost:{own_server.port}").replace("JOB", job_id)
        command = ["bash", "-c", told.replace('{"seed": 0}', QUICK)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    create, poll, report, model = lines()
    job_id = json.loads(shell(create))["id"]

    def look() -> Any:
        job = json.loads(shell(poll))
        return job if job["state"] == "succeeded" else None

    assert until(look)["verdict"] == "inconclusive"
    shell(report)
    shell(model)
    assert "<svg" in (tmp_path / "report.html").read_text()
    name = "backdoored-resnet18.safetensors"
    assert (tmp_path / name).read_bytes() == (ROOT / "examples" / name).read_bytes()
    document = httpx2.get(f"{own_server.url}/openapi.json").json()
    assert {"/v1/jobs", "/v1/artifacts", "/v1/jobs/{job_id}/model"} <= set(document["paths"])
