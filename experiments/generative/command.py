"""`ehrfusion data synthesise`, `data impute` and `data check --anomalies`: what they write and what they say."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.options import count, overwrite
from experiments.terminal import say

if TYPE_CHECKING:
    import polars as pl

    from experiments.generative.diffusion import Training
    from experiments.generative.vectors import Vectors

_STEPS = {"synthesise": 5000, "impute": 2000, "check": 2000}  # a label given all else takes longest to learn
_TRIED = 1000  # tuning records in copies of which errors are planted


def add_generative_verbs(kinds: Any) -> None:
    """Add `synthesise` and `impute` to the verbs of `data`."""
    make = kinds.add_parser("synthesise", help="synthetic rows of vectors, with what they are worth and give away")
    make.add_argument("--rows", type=count, default=None, help="how many (default: as many as training patients)")
    make.set_defaults(run="data_synthesise")
    fill = kinds.add_parser("impute", help="vectors of patients with missing numbers filled in, and how well")
    ways = ("best", "mean", "iterative", "diffusion")
    fill.add_argument("--by", choices=ways, default="best", help="default: what errs least on hidden tuning numbers")
    fill.set_defaults(run="data_impute")
    for name, verb in (("synthesise", make), ("impute", fill)):
        verb.add_argument("folder", type=Path)
        verb.add_argument("out", type=Path)
        _common(verb, _STEPS[name])
        overwrite(verb)


def add_anomalies(check: Any) -> None:
    """Add looking for records that do not fit to `data check`."""
    check.add_argument(
        "--anomalies",
        nargs="?",
        type=Path,
        const=Path("anomalies.parquet"),
        default=None,
        metavar="FILE",
        help="also score how little each record fits, and write the scores to FILE (default: anomalies.parquet)",
    )
    check.add_argument(
        "--by",
        choices=("diffusion", "forest", "furthest"),
        default="diffusion",
        help="what judges (default: diffusion)",
    )
    _common(check, _STEPS["check"])


def _common(verb: Any, steps: int) -> None:
    verb.add_argument("--labels", default=None, metavar="NAME", help="the label whose prediction times are looked at")
    verb.add_argument("--steps", type=count, default=steps, help=f"of training (default {steps})")
    verb.add_argument("--seed", type=int, default=0)


def data_synthesise(arguments: Namespace) -> int:
    """Write synthetic rows and a report."""
    from experiments.generative.gather import gather
    from experiments.generative.pictures import synthesis_png
    from experiments.generative.synthesis import synthesise

    _check_out(arguments)
    gathered = gather(arguments.folder, arguments.labels, progress=True)
    found = synthesise(gathered, _training(arguments), rows=arguments.rows, progress=True)
    tables = {"synthetic": _table(found.rows)}
    _write(arguments.out, tables, found.lines(), {"synthetic.png": synthesis_png(found)})
    return 0


def data_impute(arguments: Namespace) -> int:
    """Write filled vectors and a report."""
    import polars as pl

    from experiments.generative.gather import gather
    from experiments.generative.imputation import impute

    _check_out(arguments)
    gathered = gather(arguments.folder, arguments.labels, progress=True)
    found = impute(gathered, _training(arguments), progress=True)
    by = found.best if arguments.by == "best" else arguments.by
    cohort = gathered.cohort
    keys = pl.DataFrame({"subject_id": cohort.subject_ids, "prediction_time": cohort.prediction_times})
    table = pl.concat([keys, _table(found.filled[by])], how="horizontal")
    _write(arguments.out, {"imputed": table}, found.lines(by), {})
    return 0


def check_anomalies(arguments: Namespace) -> int:
    """Score every record, write the scores for the owner's eyes, and say what stands out without saying who."""
    import polars as pl

    from experiments.generative.anomaly import find_anomalies, in_words
    from experiments.generative.gather import gather
    from experiments.generative.pictures import anomalies_png
    from experiments.whole import whole_file

    by, path = arguments.by, arguments.anomalies
    _check_scores(arguments.folder, path)
    gathered = gather(arguments.folder, arguments.labels, keep="tuning", most=_TRIED, progress=True)
    found = find_anomalies(gathered, _training(arguments), progress=True)
    odd, cohort = found.odd[by], gathered.cohort
    table = pl.DataFrame(
        {
            "subject_id": cohort.subject_ids,
            "prediction_time": cohort.prediction_times,
            "split": cohort.split.tolist(),
            "score": odd.score,
            "what": [odd.names[each] for each in odd.what],
            "stands_out": found.flagged(by),
        }
    ).sort("score", descending=True, maintain_order=True)
    with whole_file(path, private=True) as temporary:
        table.write_parquet(temporary)
    picture = path.with_suffix(".png")
    with whole_file(picture, private=True) as temporary:
        temporary.write_bytes(anomalies_png(found))
    for line in in_words(found, by):
        say(line)
    say(f"{path}: the score of each record, the oddest first; only you can read it. What was tried: {picture}")
    return 0


def _training(arguments: Namespace) -> Training:
    from experiments.generative.diffusion import Training

    return Training(steps=arguments.steps, seed=arguments.seed)


def _check_scores(folder: Path, path: Path) -> None:
    from experiments.data.folder import is_inside
    from fusion.component import UsageError

    if path.suffix != ".parquet":
        raise UsageError(f"{path.name}: write the scores to a .parquet file; a picture of the same name goes beside it")
    if is_inside(folder, path):
        raise UsageError(f"{path.name} would lie in the data folder, from which events are read; write it elsewhere")


def _check_out(arguments: Namespace) -> None:
    from experiments.data.folder import is_inside
    from fusion.component import UsageError

    out, folder = arguments.out, arguments.folder
    if is_inside(folder, out) or is_inside(out, folder):
        raise UsageError(f"{out}: what is made of a data folder cannot take its place or lie in it; write it elsewhere")
    if out.exists() and not arguments.overwrite and (out.is_file() or any(out.iterdir())):
        raise UsageError(f"{out} exists; choose another folder or say --overwrite")


def _table(vectors: Vectors) -> pl.DataFrame:
    """Return vectors as a table: flags as booleans, what is missing as null."""
    import polars as pl

    columns: dict[str, pl.Series] = {}
    for place, column in enumerate(vectors.columns):
        values = vectors.values[:, place]
        kept = pl.Series(values, nan_to_null=True)
        columns[column.name] = kept.cast(pl.Boolean) if column.flag else kept.cast(pl.Float32)
    return pl.DataFrame(columns)


def _write(out: Path, tables: Mapping[str, pl.DataFrame], lines: Sequence[str], pictures: Mapping[str, bytes]) -> None:
    """Write tables, the report and pictures so that only the owner can read them, and print the report."""
    from experiments.whole import whole_folder

    with whole_folder(out, private=True) as folder:
        for name, table in tables.items():
            table.write_parquet(folder / f"{name}.parquet")
        (folder / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for name, content in pictures.items():
            (folder / name).write_bytes(content)
    for line in lines:
        say(line)
    say(f"{out}: {', '.join([*(f'{name}.parquet' for name in tables), 'report.txt', *pictures])}")
