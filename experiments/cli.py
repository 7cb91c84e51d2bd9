"""The command line: one verb a function, heavy imports inside each verb."""

from __future__ import annotations

import argparse
import difflib
import errno
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 something is wrong with the data, 2 wrong usage."""
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    # argparse gives up on KEY=VALUE after an option; we do not
    if any("=" not in each or each.startswith("-") or not hasattr(chosen, "overrides") for each in rest):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        chosen.overrides = [*chosen.overrides, *rest]
    if not hasattr(chosen, "run"):
        parser.print_help()
        return 2
    from experiments import commands, data_commands
    from fusion.component import UsageError

    try:
        return int((vars(commands) | vars(data_commands))[chosen.run](chosen) or 0)
    except UsageError as error:
        print(f"ehrfusion: {error}", file=sys.stderr)  # noqa: T201 - the one line a user sees
        return 2
    except OSError as error:  # a folder that may not be written, a full disk, a name that is too long
        print(f"ehrfusion: {_refused(error)}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("ehrfusion: interrupted; the same command goes on where it was", file=sys.stderr)  # noqa: T201
        return 130


def _refused(error: OSError) -> str:
    """Say what the system refused, and of which file; not of an image, which may be named after a patient."""
    path = Path(str(error.filename or ""))
    known = path.suffix in (".parquet", ".json", ".yaml", ".yml", ".csv", ".npz", ".safetensors", ".db", ".html")
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
    _data(verbs)
    _study_verbs(verbs)
    _model_verbs(verbs)
    _other_verbs(verbs)
    return parser


Verbs: TypeAlias = "argparse._SubParsersAction[_Parser]"


def _demo(verbs: Verbs) -> None:
    demo = verbs.add_parser("demo", help="the main job on synthetic data: search, compare, register, predict")
    _workers(demo)
    demo.add_argument("--fresh", action="store_true", help="forget an earlier demo")
    _runs(demo)
    _overrides(demo)
    demo.set_defaults(run="demo")


def _data(verbs: Verbs) -> None:
    data = verbs.add_parser("data", help="write, convert and check data folders (MEDS 0.4)")
    kinds = data.add_subparsers(title="data commands", metavar="COMMAND", required=True)
    synthetic = kinds.add_parser("synthetic", help="a folder with planted causes, so that the best score is known")
    synthetic.add_argument("out", type=Path)
    synthetic.add_argument("--patients", type=_count, default=2000)
    synthetic.add_argument("--seed", type=int, default=0)
    synthetic.add_argument(
        "--recipe", default="mixed", help="redundant, unique, synergy, ancestor, missing, noise, mixed"
    )
    synthetic.add_argument("--missing", choices=("random", "severity"), default="random")
    synthetic.add_argument("--note-missing", type=_share, help="share without notes (default: the recipe's)")
    synthetic.add_argument("--image-missing", type=_share, help="share without images (default: the recipe's)")
    _overwrite(synthetic)
    synthetic.set_defaults(run="data_synthetic")
    check = kinds.add_parser("check", help="validate a folder and show who has what")
    check.add_argument("folder", type=Path)
    check.set_defaults(run="data_check")
    eicu = kinds.add_parser("eicu", help="convert the eICU database (demo or full)")
    eicu.add_argument("source", type=Path)
    eicu.add_argument("out", type=Path)
    eicu.add_argument(
        "--hourly", type=Path, default=None, help="folder with dyn.parquet: hourly laboratory and vital signs"
    )
    eicu.add_argument("--split-by", choices=("patient", "site"), default="patient")
    eicu.add_argument("--seed", type=int, default=0)
    _overwrite(eicu)
    eicu.set_defaults(run="data_eicu")
    for version, name in ((3, "MIMIC-III"), (4, "MIMIC-IV")):
        mimic = kinds.add_parser(f"mimic{version}", help=f"convert {name} (demo or full)")
        mimic.add_argument("source", type=Path)
        mimic.add_argument("out", type=Path)
        mimic.add_argument(
            "--hours", type=_count, default=24, help="when to predict, after unit admission (default 24)"
        )
        mimic.add_argument("--seed", type=int, default=0)
        _overwrite(mimic)
        mimic.set_defaults(run="data_mimic", version=version)
    from experiments.graph_command import add_graph_verb

    add_graph_verb(kinds)
    covid = kinds.add_parser("covid-cxr", help="convert the COVID-19 image data collection")
    covid.add_argument("source", type=Path)
    covid.add_argument("out", type=Path)
    covid.add_argument("--keep-finding", action="store_true", help="do not mask the finding's name in the notes")
    covid.add_argument("--seed", type=int, default=0)
    _overwrite(covid)
    covid.set_defaults(run="data_covid_cxr")


def _study_verbs(verbs: Verbs) -> None:
    train = verbs.add_parser("train", help="train one experiment and evaluate it on the tuning split")
    train.add_argument("config")
    _runs(train)
    _overrides(train)
    train.set_defaults(run="train")
    search = verbs.add_parser("search", help="run a study, or go on with it")
    search.add_argument("study", help="a YAML file, or the name of a built-in study")
    _workers(search)
    search.add_argument("--engine", choices=("local", "ray"), default=None, help="where workers run (default: local)")
    search.add_argument("--fresh", action="store_true", help="forget what this study did before")
    search.add_argument("--control", choices=("random",), help="also search so, and say whether the study did better")
    search.add_argument("--repeats", type=_count, default=3, help="how often each, with --control (default 3)")
    search.add_argument("--status", action="store_true", help="say how far it is, and start nothing")
    _runs(search)
    _overrides(search)
    search.set_defaults(run="search")
    worker = verbs.add_parser("worker", help="take part in a study from any machine; the first one begins it")
    worker.add_argument("--study", required=True, metavar="STUDY", help="a YAML file, or the name of a built-in study")
    worker.add_argument(
        "--storage", default=None, metavar="URL", help="study storage that all workers reach (PostgreSQL)"
    )
    worker.add_argument(
        "--checkpoints", default=None, metavar="PLACE", help="folder or fsspec URL that all workers reach"
    )
    _runs(worker)
    _overrides(worker)
    worker.set_defaults(run="worker")
    audit = verbs.add_parser("audit", help="look for leaks in what a study learns from; compare and register do it too")
    audit.add_argument("study", help="a study that was searched, a YAML file, or the name of a built-in study")
    _runs(audit)
    _overrides(audit)
    audit.set_defaults(run="audit")
    compare = verbs.add_parser("compare", help="compare strategies of fusion or training on the held-out split")
    compare.add_argument("study", help="a study that was searched, or a YAML file")
    compare.add_argument("--by", choices=("fusion", "training"), default="fusion")
    compare.add_argument("--seeds", type=_count, default=None)
    _workers(compare)
    _no_audit(compare)
    _runs(compare)
    _overrides(compare)
    compare.set_defaults(run="compare")
    benchmark = verbs.add_parser("benchmark", help="every strategy on every synthetic recipe, as one table")
    benchmark.add_argument("--by", choices=("fusion", "training"), default="fusion")
    benchmark.add_argument("--recipes", type=_names, default=None, metavar="A,B", help="default: all but mixed")
    benchmark.add_argument("--strategies", type=_names, default=None, metavar="A,B", help="fusions (default: all)")
    benchmark.add_argument("--patients", type=_count, default=1200)
    benchmark.add_argument("--seeds", type=_count, default=3)
    _workers(benchmark)
    _runs(benchmark)
    benchmark.set_defaults(run="benchmark")
    report = verbs.add_parser("report", help="write the HTML report of a study")
    report.add_argument("study")
    _runs(report)
    _overrides(report)
    report.set_defaults(run="report")


def _model_verbs(verbs: Verbs) -> None:
    register = verbs.add_parser("register", help="retrain the best, evaluate once on the held-out split, register")
    register.add_argument("study")
    register.add_argument("--name", required=True, help="name of the registered model")
    register.add_argument("--top", type=_count, default=None, help="architectures to retrain (default: finalists.top)")
    register.add_argument("--seeds", type=_count, default=None, help="fresh seeds for each (default: finalists.seeds)")
    register.add_argument(
        "--pick", default="best", metavar="RULE", help="best, knee, smallest, or e.g. 'latency_ms<=5,parameters<=1e5'"
    )
    register.add_argument("--promote", action="store_true", help="move the alias champion to it")
    _workers(register)
    _no_audit(register)
    _runs(register)
    register.set_defaults(run="register")
    predict = verbs.add_parser("predict", help="predict every patient of a folder")
    predict.add_argument("model", help="models:/NAME@ALIAS, models:/NAME/VERSION or a bundle folder")
    predict.add_argument("folder", type=Path)
    predict.add_argument("-o", "--out", type=Path, required=True)
    predict.add_argument("--labels", default=None, help="label file that gives the prediction times (and truths)")
    _runs(predict)
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
    _runs(explain)
    explain.set_defaults(run="explain")


def _other_verbs(verbs: Verbs) -> None:
    components = verbs.add_parser("components", help="list encoders and fusion strategies, or show one")
    components.add_argument("name", nargs="?", help="one of them, or a kind: codes, fusion, training, ...")
    components.add_argument("--markdown", action="store_true", help="print the tables as docs/components.md has them")
    components.set_defaults(run="components")
    track = verbs.add_parser("track", help="write what a study did to MLflow again")
    track.add_argument("action", choices=("sync",))
    track.add_argument("study")
    _runs(track)
    _overrides(track)
    track.set_defaults(run="track_sync")
    doctor = verbs.add_parser("doctor", help="say what is installed and whether everything answers")
    _runs(doctor)
    doctor.add_argument("--storage", default=None, help="study storage URL to try")
    doctor.set_defaults(run="doctor")


def _count(text: str) -> int:
    """Read a whole number from 1 up."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up; got '{text}'")
    return int(text)


def _names(text: str) -> list[str]:
    """Read names with commas between."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _share(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1; got '{text}'")
    return value


def _runs(parser: _Parser) -> None:
    parser.add_argument("--runs", type=Path, default=None, help="folder of studies and tracking (default: runs)")


def _no_audit(parser: _Parser) -> None:
    parser.add_argument("--no-audit", action="store_true", help="go on without a leakage audit; it is written down")


def _workers(parser: _Parser) -> None:
    text = "processes; more than GPUs share them (default: what the study says, else one a GPU or one a core)"
    parser.add_argument("--workers", type=_count, default=None, help=text)


def _overwrite(parser: _Parser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")


def _overrides(parser: _Parser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. search.trials=50 training.lr=1e-3")


if __name__ == "__main__":
    sys.exit(main())
