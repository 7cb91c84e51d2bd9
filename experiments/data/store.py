"""The store: prepared tensors of a cohort, built once, memory-mapped, shared by all processes."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from encoders.packed import Packed
from encoders.preprocessor import Preparation, Preprocessor
from encoders.records import Knowledge, Record, UnreadableImage
from experiments.data.cohort import Cohort
from experiments.data.folder import Dataset
from experiments.data.pack import PackWriter, open_pack
from experiments.data.reader import iterate_records
from experiments.data.units import tables_fingerprint
from experiments.data_config import DataConfig
from experiments.progress import progress_bar
from experiments.whole import make_private, scratch, whole_file
from fusion.component import UsageError
from fusion.task import Task

_VERSION = "2"  # of the files below; raise it when their meaning changes


@dataclass(frozen=True)
class Source:
    """One modality's prepared rows of a cohort."""

    preprocessor: Preprocessor
    packed: Packed
    row_index: Tensor

    def lengths(self, rows: Tensor) -> Tensor:
        """Return the number of items of each cohort row, 0 where absent. Shape: (B,) -> (B,)."""
        return self.packed.lengths(self.row_index[rows])

    def collate(self, rows: Tensor) -> Any:
        """Gather cohort rows (B,) into this modality's Inputs."""
        return self.preprocessor.collate(self.packed, self.row_index[rows])


@dataclass(frozen=True)
class _Records:
    """Records of some rows with some modalities; can be gone through again and again."""

    dataset: Dataset
    cohort: Cohort
    rows: NDArray[np.int64]
    window_days: float | None
    modalities: tuple[str, ...]

    def __iter__(self) -> Iterator[Record]:
        return (record for _, record in self.numbered())

    def numbered(self) -> Iterator[tuple[int, Record]]:
        """Yield (cohort row, record)."""
        subjects, times = self.cohort.subject_ids[self.rows], self.cohort.prediction_times[self.rows]
        found = iterate_records(self.dataset, subjects, times, window_days=self.window_days, modalities=self.modalities)
        return ((int(self.rows[place]), record) for place, record in found)


class Store:
    """Prepared tensors of one cohort; preprocessors are fitted on its train rows only, or on those of another store."""

    def __init__(
        self, dataset: Dataset, cohort: Cohort, config: DataConfig, cache: Path, fitted_by: Store | None = None
    ) -> None:
        self.dataset, self.cohort, self.config, self.cache = dataset, cohort, config, Path(cache)
        self.fitted_by = fitted_by
        self.data_fingerprint = dataset_fingerprint(dataset, self.cache)
        self._open: dict[str, Source] = {}
        self._knowledge: Knowledge | None = None

    @property
    def task(self) -> Task:
        """What is predicted."""
        return self.cohort.task

    def fingerprint(self, plan: Preparation) -> str:
        """Hash what a preparation depends on: data, labels, splits, window, the preprocessor's code and options."""
        parts = [
            _VERSION,
            _code(plan.preprocessor.__module__, inspect.getfile(plan.preprocessor)),
            tables_fingerprint(),
            plan.key,
            self.data_fingerprint,
            self.cohort.fingerprint,
            self.cohort.split_fingerprint,
        ]
        parts += [str(self.config.window_days), self.config.bad_images]
        parts += [plan.content] if plan.content else []
        parts += [self.fitted_by.fingerprint(plan)] if self.fitted_by is not None else []
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def source(self, plan: Preparation) -> Source:
        """Open a preparation, building it first if it is not there."""
        key = self.fingerprint(plan)
        if key not in self._open:
            folder = self.folder(plan)
            if not folder.is_dir():
                self.prepare([plan])
            try:
                data = json.loads((folder / "preprocessor.json").read_text(encoding="utf-8"))
                self._open[key] = Source(plan.preprocessor.from_dict(data), *open_pack(folder))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                why = f"{folder}: these prepared tensors are damaged ({type(error).__name__}); remove the folder"
                raise UsageError(f"{why}, and it is made again") from None
        return self._open[key]

    def preprocessor(self, plan: Preparation) -> Preprocessor:
        """Return the fitted preprocessor of a preparation."""
        return self.source(plan).preprocessor

    def knowledge(self) -> Knowledge:
        """Return the dataset's descriptions, graph and units, read once."""
        if self._knowledge is None:
            self._knowledge = replace(self.dataset.knowledge(), measures=self.dataset.measures)
        return self._knowledge

    def prepare(self, plans: Sequence[Preparation], progress: bool = False) -> None:
        """Fit and encode what is not there yet: a pass over the train rows each, then one pass over all rows.

        Every preparation appears whole, by renaming a finished folder; of two processes that build at once, the
        second drops its copy.

        Raises:
            UsageError: the data are not as declared, or an image cannot be read and `bad_images` is "error".
        """
        missing = list({self.fingerprint(plan): plan for plan in plans if not self.folder(plan).is_dir()}.values())
        if not missing:
            return
        with scratch(self.cache / "building") as building:
            fitted = [self.fit(plan) for plan in missing]
            folders = [building / plan.key for plan in missing]
            self._encode(missing, fitted, folders, progress)
            make_private(building)
            for plan, folder in zip(missing, folders, strict=True):
                try:
                    folder.replace(self.folder(plan))
                except OSError:
                    if not self.folder(plan).is_dir():
                        raise
                    shutil.rmtree(folder)

    def folder(self, plan: Preparation) -> Path:
        """Return where a preparation lies, or will."""
        return self.cache / f"{plan.key}-{self.fingerprint(plan)[:16]}"

    def _records(self, rows: NDArray[np.int64], modalities: tuple[str, ...]) -> _Records:
        return _Records(self.dataset, self.cohort, rows, self.config.window_days, modalities)

    def fit(self, plan: Preparation) -> Preprocessor:
        """Fit the preprocessor of a preparation anew, on the train rows; or take it from the store that fitted it."""
        if self.fitted_by is not None:
            return self.fitted_by.preprocessor(plan)
        records = self._records(self.cohort.rows("train"), (plan.modality,))
        fitted: Preprocessor = plan.preprocessor.fit(records, self.knowledge(), **plan.options)
        return fitted

    def _encode(
        self,
        plans: Sequence[Preparation],
        fitted: Sequence[Preprocessor],
        folders: Sequence[Path],
        progress: bool,
    ) -> None:
        rows = np.arange(len(self.cohort.subject_ids))
        modalities = tuple(sorted({plan.modality for plan in plans}))
        unreadable: set[Path] = set()
        with ExitStack() as stack:
            writers = [
                stack.enter_context(PackWriter(folder, each, len(rows)))
                for folder, each in zip(folders, fitted, strict=True)
            ]
            advance = stack.enter_context(progress_bar("preparing records", len(rows), enabled=progress))
            for row, record in self._records(rows, modalities).numbered():
                for writer in writers:
                    self._append(writer, row, record, unreadable)
                advance()
            trained = (self.fitted_by or self).cohort
            about = {"train_rows": hashlib.sha256(trained.subject_ids[trained.rows("train")].tobytes()).hexdigest()}
            for writer in writers:
                writer.finish(about)
        if unreadable:
            logging.getLogger("ehrfusion").warning("%d unreadable images are treated as missing", len(unreadable))

    def _append(self, writer: PackWriter, row: int, record: Record, unreadable: set[Path]) -> None:
        """Encode one record; an unreadable image ends the build, or is dropped if the user asked for that."""
        while True:
            try:
                writer.append(row, record)
                return
            except UnreadableImage as error:
                if self.config.bad_images == "error":
                    raise self.dataset.placed(error) from None
                unreadable.add(error.path)
                record = replace(record, images=tuple(each for each in record.images if each.path != error.path))


@cache
def _code(module: str, file: str) -> str:
    """Hash the package that a preprocessor comes from, whose code it may call; outside a package, its file."""
    package = sys.modules[module.partition(".")[0]]
    folders = [Path(each) for each in getattr(package, "__path__", ())]
    files = [each for folder in folders for each in folder.rglob("*.py")] or [Path(file)]
    return hashlib.sha256(b"".join(each.read_bytes() for each in sorted(files))).hexdigest()


def dataset_fingerprint(dataset: Dataset, cache: Path) -> str:
    """Return the content hash of a dataset, remembered as long as no file's size or time of change differs."""
    digest = hashlib.sha256()
    for path in sorted(each for each in dataset.folder.rglob("*") if each.is_file()):
        status = path.stat()
        digest.update(f"{path.relative_to(dataset.folder)}:{status.st_size}:{status.st_mtime_ns}\n".encode())
    memo = cache / f"fingerprint-{digest.hexdigest()[:24]}"
    if memo.is_file() and len(known := memo.read_text(encoding="ascii").strip()) == 64:
        return known
    with whole_file(memo) as temporary:
        temporary.write_text(dataset.fingerprint, encoding="ascii")
    return dataset.fingerprint
