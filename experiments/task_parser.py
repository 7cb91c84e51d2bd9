"""The verbs `ehrfusion tasks` and `ehrfusion data harmonise` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def add_tasks(verbs: Any) -> None:
    """Add the verb to the others."""
    tasks = verbs.add_parser(
        "tasks", help="list clinical tasks, show one, or compute its labels from a folder's events"
    )
    tasks.add_argument("name", nargs="?", help="one of them, or a YAML file of your own")
    tasks.add_argument("--on", type=Path, default=None, metavar="FOLDER", help="write its labels into this data folder")
    text = "CSV with the columns first and second: classes of drugs that interact; or drug_classes: well-known pairs"
    tasks.add_argument("--interactions", type=Path, default=None, metavar="FILE", help=text)
    tasks.add_argument("--overwrite", action="store_true", help="compute labels that are there again")
    form = tasks.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print the table as docs/tasks.md has it")
    form.add_argument("--schema", action="store_true", help="print the JSON schema of a task's file")
    tasks.set_defaults(run="tasks")


def add_harmonise(kinds: Any) -> None:
    """Add the verb to those of `ehrfusion data`."""
    text = "copy a folder with common laboratory values and vital signs in one unit each, without outliers"
    harmonise = kinds.add_parser("harmonise", help=text)
    harmonise.add_argument("source", type=Path)
    harmonise.add_argument("out", type=Path)
    harmonise.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    harmonise.set_defaults(run="data_harmonise")
