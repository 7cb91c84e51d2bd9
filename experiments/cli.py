"""The command line: one verb a function, heavy imports inside each verb."""

from __future__ import annotations

import argparse
import difflib
import errno
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn, TypeAlias

from experiments.data_parser import add_data
from experiments.options import count, names, no_audit, overrides, runs, workers
from experiments.section_commands import add_section_verbs
from experiments.task_parser import add_tasks

_VERBS = tuple(
    f"experiments.{name}"
    for name in (
        "commands",
        "section_commands",
        "data_commands",
        "graph_command",
        "source_commands",
        "task_commands",
        "text_command",
        "generative.command",
    )
)  # the modules whose functions the verbs are


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 something is wrong with the data, 2 wrong usage."""
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    # argparse gives up on KEY=VALUE, and on a place that may be left out, after an option; we do not
    if rest and not rest[0].startswith("-") and getattr(chosen, getattr(chosen, "late", ""), rest) is None:
        setattr(chosen, chosen.late, Path(rest.pop(0)))
    if any("=" not in each or each.startswith("-") or not hasattr(chosen, "overrides") for each in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        chosen.overrides = [*chosen.overrides, *rest]
    if not hasattr(chosen, "run"):
        parser.print_help()
        return 2
    from fusion.component import UsageError

    try:
        verbs = {name: each for module in _VERBS for name, each in vars(import_module(module)).items()}
        return int(verbs[chosen.run](chosen) or 0)
    except UsageError as error:
        print(f"ehrfusion: {error}", file=sys.stderr)  # noqa: T201 - the one line a user sees
        return 2
    except BrokenPipeError:  # who reads the output has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere, at the end too
        return 1
    except OSError as error:  # a folder that may not be written, a full disk, a name that is too long
        print(f"ehrfusion: {_refused(error)}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("ehrfusion: interrupted; the same command goes on where it was", file=sys.stderr)  # noqa: T201
        return 130


def _refused(error: OSError) -> str:
    """Say what the system refused, and of which file; not of an image, which may be named after a patient."""
    path = Path(str(error.filename or ""))
    plain = (".parquet", ".json", ".yaml", ".yml", ".csv", ".csv.gz", ".npz", ".safetensors", ".db", ".html")
    known = path.name.lower().endswith(plain)
    shown = path if known or not path.is_file() else f"a file in {path.parent}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{f' ({shown})' if error.filename else ''}; make space, and the same command goes on"
    where = f": {shown}" if error.filename else ""
    return f"{os.strerror(error.errno) if error.errno else type(error).__name__}{where}"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with the nearest command, instead of printing the whole usage."""

    def error(self, message: str) -> NoReturn:
        given, _, choices = message.partition("(choose from ")
        wrong = given.rpartition("invalid choice: ")[2].strip().strip("'")
        close = difflib.get_close_matches(wrong, re.findall(r"[\w-]+", choices), n=1) if choices else []
        advice = f"did you mean '{close[0]}'?" if close else f"see: {self.prog} --help"
        self.exit(2, f"{self.prog}: {given.strip() if close else message}; {advice}\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="ehrfusion",
        description="Search, compare and register multimodal fusion models on health records.",
    )
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")
    _demo(verbs)
    add_data(verbs)
    add_tasks(verbs)
    add_section_verbs(verbs)
    _study_verbs(verbs)
    _model_verbs(verbs)
    _other_verbs(verbs)
    return parser


Verbs: TypeAlias = "argparse._SubParsersAction[_Parser]"


def _demo(verbs: Verbs) -> None:
    demo = verbs.add_parser("demo", help="the main job on synthetic data: search, compare, register, predict")
    workers(demo)
    demo.add_argument("--fresh", action="store_true", help="forget an earlier demo")
    runs(demo)
    overrides(demo)
    demo.set_defaults(run="demo")


def _study_verbs(verbs: Verbs) -> None:
    train = verbs.add_parser("train", help="train one experiment and evaluate it on the tuning split")
    train.add_argument("config")
    runs(train)
    overrides(train)
    train.set_defaults(run="train")
    search = verbs.add_parser("search", help="run a study, or go on with it")
    search.add_argument("study", help="a YAML file, or the name of a built-in study")
    workers(search)
    search.add_argument("--engine", choices=("local", "ray"), default=None, help="where workers run (default: local)")
    search.add_argument("--fresh", action="store_true", help="forget what this study did before")
    search.add_argument("--control", choices=("random",), help="also search so, and say whether the study did better")
    search.add_argument("--repeats", type=count, default=3, help="how often each, with --control (default 3)")
    search.add_argument("--status", action="store_true", help="say how far it is, and start nothing")
    runs(search)
    overrides(search)
    search.set_defaults(run="search")
    worker = verbs.add_parser("worker", help="take part in a study from any machine; the first one begins it")
    worker.add_argument("--study", required=True, metavar="STUDY", help="a YAML file, or the name of a built-in study")
    worker.add_argument(
        "--storage", default=None, metavar="URL", help="study storage that all workers reach (PostgreSQL)"
    )
    worker.add_argument(
        "--checkpoints", default=None, metavar="PLACE", help="folder or fsspec URL that all workers reach"
    )
    runs(worker)
    overrides(worker)
    worker.set_defaults(run="worker")
    audit = verbs.add_parser("audit", help="look for leaks in what a study learns from; compare and register do it too")
    audit.add_argument("study", help="a study that was searched, a YAML file, or the name of a built-in study")
    runs(audit)
    overrides(audit)
    audit.set_defaults(run="audit")
    compare = verbs.add_parser("compare", help="compare strategies of fusion or training on the held-out split")
    compare.add_argument("study", help="a study that was searched, or a YAML file")
    compare.add_argument("--by", choices=("fusion", "training"), default="fusion")
    compare.add_argument("--seeds", type=count, default=None)
    workers(compare)
    no_audit(compare)
    runs(compare)
    overrides(compare)
    compare.set_defaults(run="compare")
    benchmark = verbs.add_parser("benchmark", help="every strategy on every synthetic recipe, as one table")
    benchmark.add_argument("--by", choices=("fusion", "training"), default="fusion")
    benchmark.add_argument("--recipes", type=names, default=None, metavar="A,B", help="all but mixed and drugs")
    benchmark.add_argument("--strategies", type=names, default=None, metavar="A,B", help="fusions (default: all)")
    benchmark.add_argument("--patients", type=count, default=1200)
    benchmark.add_argument("--seeds", type=count, default=3)
    workers(benchmark)
    runs(benchmark)
    benchmark.set_defaults(run="benchmark")
    report = verbs.add_parser("report", help="write the HTML report of a study")
    report.add_argument("study")
    runs(report)
    overrides(report)
    report.set_defaults(run="report")


def _model_verbs(verbs: Verbs) -> None:
    register = verbs.add_parser("register", help="retrain the best, evaluate once on the held-out split, register")
    register.add_argument("study")
    register.add_argument("--name", required=True, help="name of the registered model")
    register.add_argument("--top", type=count, default=None, help="architectures to retrain (default: finalists.top)")
    register.add_argument("--seeds", type=count, default=None, help="fresh seeds for each (default: finalists.seeds)")
    register.add_argument(
        "--pick", default="best", metavar="RULE", help="best, knee, smallest, or e.g. 'latency_ms<=5,parameters<=1e5'"
    )
    register.add_argument("--promote", action="store_true", help="move the alias champion to it")
    workers(register)
    no_audit(register)
    runs(register)
    register.set_defaults(run="register")
    predict = verbs.add_parser("predict", help="predict every patient of a folder")
    predict.add_argument("model", help="models:/NAME@ALIAS, models:/NAME/VERSION or a bundle folder")
    predict.add_argument("folder", type=Path)
    predict.add_argument("-o", "--out", type=Path, required=True)
    predict.add_argument("--labels", default=None, help="label file that gives the prediction times (and truths)")
    runs(predict)
    predict.set_defaults(run="predict")
    explain = verbs.add_parser("explain", help="which codes, words, graph edges and image regions predictions rest on")
    explain.add_argument("model", help="models:/NAME@ALIAS, models:/NAME/VERSION or a bundle folder")
    explain.add_argument("folder", type=Path)
    explain.add_argument("-o", "--out", type=Path, required=True, help="folder of the page and its tables")
    explain.add_argument("--labels", default=None, help="label file that gives the prediction times")
    split = (
        "only patients of this split of the folder, or 'all'; held_out unless given, where the folder says who that is"
    )
    explain.add_argument("--split", default=None, help=split)
    weights = "parquet file for each prediction's fusion weights, with subject ids beside them as in predictions"
    explain.add_argument("--weights", type=Path, default=None, help=weights)
    runs(explain)
    explain.set_defaults(run="explain")


def _other_verbs(verbs: Verbs) -> None:
    components = verbs.add_parser("components", help="list encoders and fusion strategies, or show one")
    components.add_argument("name", nargs="?", help="one of them, or a kind: codes, fusion, training, ...")
    components.add_argument("--markdown", action="store_true", help="print the tables as docs/components.md has them")
    components.set_defaults(run="components")
    track = verbs.add_parser("track", help="write what a study did to MLflow again")
    track.add_argument("action", choices=("sync",))
    track.add_argument("study")
    runs(track)
    overrides(track)
    track.set_defaults(run="track_sync")
    doctor = verbs.add_parser("doctor", help="say what is installed and whether everything answers")
    runs(doctor)
    doctor.add_argument("--storage", default=None, help="study storage URL to try")
    doctor.set_defaults(run="doctor")


if __name__ == "__main__":
    sys.exit(main())
