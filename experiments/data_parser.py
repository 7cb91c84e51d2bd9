"""The arguments of every verb of `ehrfusion data`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.generative.command import add_anomalies, add_generative_verbs
from experiments.graph_command import add_graph_verb
from experiments.options import count, overwrite, share
from experiments.source_commands import add_source_verbs
from experiments.task_parser import add_harmonise
from experiments.text_command import add_text_verb


def add_data(verbs: Any) -> None:
    """Add the verb with its own verbs."""
    data = verbs.add_parser("data", help="write, convert and check data folders (MEDS 0.4)")
    kinds = data.add_subparsers(title="data commands", metavar="COMMAND", required=True)
    synthetic = kinds.add_parser("synthetic", help="a folder with planted causes, so that the best score is known")
    synthetic.add_argument("out", type=Path)
    synthetic.add_argument("--patients", type=count, default=2000)
    synthetic.add_argument("--seed", type=int, default=0)
    synthetic.add_argument(
        "--recipe", default="mixed", help="redundant, unique, synergy, ancestor, missing, noise, drugs, mixed"
    )
    synthetic.add_argument("--missing", choices=("random", "severity"), default="random")
    synthetic.add_argument("--note-missing", type=share, help="share without notes (default: the recipe's)")
    synthetic.add_argument("--image-missing", type=share, help="share without images (default: the recipe's)")
    overwrite(synthetic)
    synthetic.set_defaults(run="data_synthetic")
    check = kinds.add_parser("check", help="validate a folder and show who has what")
    check.add_argument("folder", type=Path)
    add_anomalies(check)
    check.set_defaults(run="data_check")
    add_text_verb(kinds)
    add_harmonise(kinds)
    eicu = kinds.add_parser("eicu", help="convert the eICU database (demo or full)")
    eicu.add_argument("source", type=Path)
    eicu.add_argument("out", type=Path)
    eicu.add_argument(
        "--hourly", type=Path, default=None, help="folder with dyn.parquet: hourly laboratory and vital signs"
    )
    eicu.add_argument("--split-by", choices=("patient", "site"), default="patient")
    eicu.add_argument("--seed", type=int, default=0)
    overwrite(eicu)
    eicu.set_defaults(run="data_eicu")
    for version, name in ((3, "MIMIC-III"), (4, "MIMIC-IV")):
        mimic = kinds.add_parser(f"mimic{version}", help=f"convert {name} (demo or full)")
        mimic.add_argument("source", type=Path)
        mimic.add_argument("out", type=Path)
        mimic.add_argument("--hours", type=count, default=24, help="when to predict, after unit admission (default 24)")
        mimic.add_argument("--seed", type=int, default=0)
        overwrite(mimic)
        if version == 4:
            _add_modules(mimic)
        mimic.set_defaults(run="data_mimic", version=version)
    add_graph_verb(kinds)
    covid = kinds.add_parser("covid-cxr", help="convert the COVID-19 image data collection")
    covid.add_argument("source", type=Path)
    covid.add_argument("out", type=Path)
    covid.add_argument("--keep-finding", action="store_true", help="do not mask the finding's name in the notes")
    covid.add_argument("--seed", type=int, default=0)
    overwrite(covid)
    covid.set_defaults(run="data_covid_cxr")
    add_generative_verbs(kinds)
    add_source_verbs(kinds)


def _add_modules(mimic: Any) -> None:
    """Add what is said of modules that are published apart."""
    text = "folder of a module that is published apart: emergency department, notes, MIMIC-CXR-JPG, mimic-cxr-reports"
    mimic.add_argument("--with", dest="beside", type=Path, action="append", default=[], metavar="FOLDER", help=text)
    text = "X-rays are hard-linked into the data folder (default; takes no room), or copied"
    mimic.add_argument("--images", choices=("link", "copy"), default="link", help=text)
