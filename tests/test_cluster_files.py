"""The files for SLURM and Kubernetes: they parse, and the commands in them are ones that we have."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from experiments.cli import _parser
from experiments.config import parse_config
from experiments.remote import place

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "cluster"
TEXT, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 1}


def closed(required: str, **fields: Any) -> dict[str, Any]:
    """Return the schema of an object with these fields and no others."""
    return {"type": "object", "properties": fields, "required": required.split(), "additionalProperties": False}


def each(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1}


# the part of batch/v1 Job that we use, with the types of its reference
AMOUNTS = {"type": "object", "additionalProperties": {"type": ["string", "integer"]}}
SECRET = closed("secretKeyRef", secretKeyRef=closed("name key", name=TEXT, key=TEXT))
MOUNT = closed("name mountPath", name=TEXT, mountPath={"type": "string", "pattern": "^/"}, readOnly={"type": "boolean"})
CONTAINER = closed(
    "name image",
    name=TEXT,
    image=TEXT,
    command=each(TEXT),
    args=each(TEXT),
    env=each(closed("name", name=TEXT, value={"type": "string"}, valueFrom=SECRET)),
    resources=closed("requests limits", requests=AMOUNTS, limits=AMOUNTS),
    volumeMounts=each(MOUNT),
)
CLAIM = closed("claimName", claimName=TEXT, readOnly={"type": "boolean"})
VOLUME = closed(
    "name", name=TEXT, configMap=closed("name", name=TEXT), persistentVolumeClaim=CLAIM, emptyDir={"type": "object"}
)
POD = closed(
    "restartPolicy containers",
    restartPolicy={"enum": ["Never"]},  # backoffLimitPerIndex wants it so
    terminationGracePeriodSeconds=COUNT,
    containers=each(CONTAINER),
    volumes=each(VOLUME),
)
JOB = closed(
    "apiVersion kind metadata spec",
    apiVersion={"const": "batch/v1"},
    kind={"const": "Job"},
    metadata=closed("name", name={"type": "string", "pattern": "^[a-z0-9-]{1,63}$"}),
    spec=closed(
        "template",
        completionMode={"enum": ["Indexed"]},
        completions=COUNT,
        parallelism=COUNT,
        backoffLimitPerIndex=COUNT,
        maxFailedIndexes=COUNT,
        template=closed("spec", spec=POD),
    ),
)


def accepted(words: list[str]) -> Any:
    """Give a command to our parser, which ends the process where it does not like it."""
    assert words[0] == "ehrfusion"
    chosen = _parser().parse_args(words[1:])
    assert chosen.run == "worker"
    assert chosen.storage.startswith("postgresql+psycopg://")
    assert place(chosen.checkpoints, "x")
    return chosen


def test_the_slurm_script_is_bash_and_its_directives_are_known() -> None:
    script = FOLDER / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True, capture_output=True, timeout=60)
    text = script.read_text(encoding="utf-8")
    found = dict(re.fullmatch(r"--([a-z-]+)(?:=(\S+))?", line).groups() for line in directives(text))  # type: ignore[union-attr]
    known = "array cpus-per-task gpus-per-task job-name mem ntasks open-mode output requeue signal time"
    assert sorted(found) == known.split()
    assert re.fullmatch(r"\d+-\d+", found["array"])
    assert re.fullmatch(r"\d+:\d\d:\d\d", found["time"])
    assert re.fullmatch(r"B:TERM@\d+", found["signal"])  # B: the script gets it, and passes it on


def directives(text: str) -> list[str]:
    """Return what follows #SBATCH; SLURM reads none of them after the first command."""
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    late = [line for line in lines[first:] if line.startswith("#SBATCH")]
    assert late == []
    return [line.removeprefix("#SBATCH ") for line in lines[:first] if line.startswith("#SBATCH")]


@pytest.mark.parametrize(("code", "asked", "runs"), [(0, False, 1), (3, False, 1), (75, False, 2), (0, True, 1)])
def test_the_slurm_script_starts_the_worker_again_only_where_it_asks_for_it(
    tmp_path: Path, code: int, asked: bool, runs: int
) -> None:
    """With a worker of ours in its place: its exit code is kept, 75 starts another, TERM is passed on."""
    worker = tmp_path / "ehrfusion"
    worker.write_text(
        f"""#!/bin/bash
echo "$@" >> {tmp_path}/calls
trap 'sleep 0.3; echo handed back >> {tmp_path}/calls; exit 0' TERM
if [ {int(asked)} = 1 ]; then kill -TERM $PPID; while true; do sleep 0.05; done; fi
[ $(wc -l < {tmp_path}/calls) = 1 ] && exit {code}
exit 0
"""
    )
    worker.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "STUDY": "my study.yaml"}
    done = subprocess.run(["bash", str(FOLDER / "slurm.sh")], env=environment, timeout=60, check=False)
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    assert done.returncode == (0 if runs == 2 else code)
    assert [line for line in calls if line == "handed back"] == ["handed back"] * asked
    commands = [line for line in calls if line != "handed back"]
    assert len(commands) == runs
    assert commands[0].startswith("worker --study my study.yaml --storage postgresql+psycopg://")


def test_a_signal_between_start_and_number_is_passed_on(tmp_path: Path) -> None:
    """Without that the worker would go on until SLURM kills it, and its trial wait 4 minutes to be handed back."""
    worker = tmp_path / "ehrfusion"
    worker.write_text(f"#!/bin/bash\ntrap 'echo handed back > {tmp_path}/calls; exit 0' TERM\nsleep 5 & wait\n")
    worker.chmod(0o755)
    text = (FOLDER / "slurm.sh").read_text(encoding="utf-8")
    early = text.replace("  worker=$!\n", "  sleep 0.5; kill -TERM $$\n  worker=$!\n")  # the trap runs between the two
    assert early != text
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", early], env=environment, timeout=60, check=False)
    assert (done.returncode, (tmp_path / "calls").read_text(encoding="utf-8")) == (0, "handed back\n")


def test_the_slurm_command_is_one_that_we_have() -> None:
    text = (FOLDER / "slurm.sh").read_text(encoding="utf-8")
    [line] = [line.strip() for line in text.splitlines() if line.strip().startswith("ehrfusion worker")]
    defaults = dict(re.findall(r"^(\w+)=\$\{\w+:-(.*)\}$", text, re.MULTILINE))
    words = shlex.split(line.removesuffix("&"))
    chosen = accepted([re.sub(r"\$(\w+)", lambda name: defaults[name[1]], word) for word in words])
    assert str(chosen.study) == defaults["STUDY"]


def test_the_kubernetes_job_is_one_and_its_command_is_one_that_we_have() -> None:
    job = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text(encoding="utf-8"))
    jsonschema.validate(job, JOB)
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    chosen = accepted([*container["command"], *container["args"]])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert any(str(chosen.study).startswith(path) for path in mounted)
    assert any(str(chosen.runs).startswith(path) for path in mounted)


def test_the_study_beside_them_is_one() -> None:
    study = yaml.safe_load((FOLDER / "study.yaml").read_text(encoding="utf-8"))
    config = parse_config(study)
    assert str(config.data.folder) == "/data"
