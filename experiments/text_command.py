"""`ehrfusion data text`: records as a person, or any language model, reads them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from experiments.options import count, names
from experiments.terminal import say

_PRIVATE = (
    "Write records as Markdown, as they were known at the prediction time: one (--row), or all that a label file "
    "predicts, to be read by any language model. The text of a record is as private as the record. It goes to a file "
    "that only you may read, or, only with --show, to the terminal, where it may be logged; nothing else is printed of "
    "it. A file of all has a row number, subject id and prediction time beside each text."
)


def add_text_verb(kinds: Any) -> None:
    """Add the verb to those of `ehrfusion data`."""
    text = kinds.add_parser(
        "text", help="write records as text, for a person or a language model", description=_PRIVATE
    )
    text.add_argument("folder", type=Path)
    text.add_argument("out", type=Path, nargs="?", help=".jsonl or .parquet for all, also .md for one")
    text.add_argument(
        "--row", type=int, default=None, metavar="N", help="one row of the label file, from 0 (by subject)"
    )
    text.add_argument("--labels", default=None, help="whose prediction times count (default: the only label)")
    text.add_argument("--sections", type=names, default=None, metavar="A,B", help="default: all of coded events")
    text.add_argument("--max-lines", type=count, default=32, help="of a section; the newest are kept (default 32)")
    text.add_argument("--last-values", type=count, default=3, help="of each measurement (default 3)")
    text.add_argument(
        "--window-days", type=float, default=None, help="only what happened so long before (default: all)"
    )
    text.add_argument("--show", action="store_true", help="print the text of --row on the terminal")
    text.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    text.set_defaults(run="data_text", late="out")


def data_text(arguments: Namespace) -> int:
    """Write or show the texts of records."""
    from encoders.serialise import DEFAULT, TextOptions
    from experiments.data.folder import open_dataset
    from experiments.data.texts import check_target, only_label, texts, write_texts
    from fusion.component import UsageError

    one, out = arguments.row is not None, arguments.out
    if arguments.show and not one:
        raise UsageError("--show prints one record; say which: --row N")
    if out is None and not arguments.show:
        raise UsageError("a record is private: give a file for its text, or --row N --show to see it on the terminal")
    if arguments.window_days is not None and not arguments.window_days > 0:
        raise UsageError(f"--window-days must be more than 0; got {arguments.window_days:g}")
    sections = tuple(arguments.sections) if arguments.sections else DEFAULT.sections
    options = TextOptions(sections, arguments.max_lines, arguments.last_values)
    dataset = open_dataset(arguments.folder)
    if out is not None:
        check_target(dataset, out, one=one, overwrite=arguments.overwrite)
    labels = arguments.labels or only_label(dataset)
    found = texts(dataset, labels, options, rows=[arguments.row] if one else None, window_days=arguments.window_days)
    if arguments.show:
        shown = list(found)
        say(shown[0]["text"])
        found = iter(shown)
    if out is not None:
        number = write_texts(found, out, progress=True)
        say(f"wrote {number:,} {'text' if number == 1 else 'texts'} to {out}; only you may read it")
    return 0
