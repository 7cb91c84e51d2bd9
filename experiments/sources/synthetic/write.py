"""Write a synthetic data folder shard by shard; memory does not grow with the number of patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from experiments.progress import progress_bar
from experiments.sources.folder import new_folder, write_table
from experiments.sources.synthetic import drugs, images, notes, vocabulary
from experiments.sources.synthetic.causes import Causes, subsets, weighted_auroc
from experiments.sources.synthetic.events import HOUR, Patients, admissions, coded_events, frame
from experiments.sources.synthetic.recipes import CAUSES, RECIPES
from fusion.component import UsageError, unknown

SPLITS = ("train", "tuning", "held_out")
_COLUMNS = ["subject_id", "time", "code", "numeric_value", "text_value", "unit", "image_path", "site"]


def write_synthetic(
    out: Path,
    *,
    patients: int = 2000,
    seed: int = 0,
    recipe: str = "mixed",
    missing: Literal["random", "severity"] = "random",
    note_missing: float | None = None,
    image_missing: float | None = None,
    shard_size: int = 10_000,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Write a MEDS folder of patients whose outcome has planted causes, and return what `truth.json` says.

    The same arguments give the same content. Memory is bounded by `shard_size`. Without a rate of missing notes or
    images the recipe's own holds (30% and 50% for most).

    Raises:
        UsageError: unknown recipe, a rate outside 0 to 1, or `out` exists.
    """
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    notes_gone, images_gone = RECIPES[recipe].missing
    rates = {
        "note_missing": notes_gone if note_missing is None else note_missing,
        "image_missing": images_gone if image_missing is None else image_missing,
    }
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise UsageError(f"{name} must be between 0 and 1; got {rate}")
    if patients < 50:
        raise UsageError(f"patients must be at least 50, so that every split has both outcomes; got {patients}")
    causes = Causes(RECIPES[recipe], missing, **rates)
    arguments = {"recipe": recipe, "patients": patients, "seed": seed, "missing": missing}
    arguments |= {**rates, "shard_size": shard_size}
    with new_folder(Path(out), overwrite=overwrite) as folder:
        _write_metadata(folder, recipe)
        truth = _write_patients(folder, causes, arguments, progress)
        (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return truth


def _write_metadata(folder: Path, recipe: str) -> None:
    for name in ("graph", "images"):
        (folder / name).mkdir()
    about = {
        "dataset_name": f"ehrfusion synthetic, {recipe}",
        "dataset_version": "1",
        "etl_name": "ehrfusion",
        "etl_version": "1",
        "meds_version": "0.4.1",
        "created_at": "2020-01-01T00:00:00",
        "license": "CC0-1.0",
        "code_modifier_columns": ["unit"],
        "additional_value_modality_columns": ["image_path"],
        "site_id_columns": ["site"],
    }
    (folder / "metadata" / "dataset.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    codes = vocabulary.codes(RECIPES[recipe].leaves)
    table = {
        "code": [each.code for each in codes],
        "description": [each.description for each in codes],
        "parent_codes": [[each.parent] if each.parent else [] for each in codes],
        "smiles": [vocabulary.SMILES.get(each.code.removeprefix(vocabulary.ATC)) for each in codes],
    }
    schema: dict[str, Any] = {"code": pl.String, "description": pl.String, "parent_codes": pl.List(pl.String)}
    schema["smiles"] = pl.String
    write_table(pl.DataFrame(table, schema=schema), folder / "metadata" / "codes.parquet")
    edges = pl.DataFrame(vocabulary.edges(), schema=["head", "relation", "tail"], orient="row")
    write_table(edges, folder / "graph" / "edges.parquet")


def _write_patients(folder: Path, causes: Causes, arguments: dict[str, Any], progress: bool) -> dict[str, Any]:
    size, total, seed = arguments["shard_size"], arguments["patients"], arguments["seed"]
    shape = (len(SPLITS), *causes.joint.shape, 2)
    counts, labels, splits, rare, sets = np.zeros(shape), [], [], _RareLeaves(causes), _DrugSets(causes, seed)
    with progress_bar("writing patients", total, enabled=progress) as advance:
        for shard, start in enumerate(range(0, total, size)):
            rng = np.random.default_rng(np.random.SeedSequence([seed, shard]))
            subjects = np.arange(start + 1, min(start + size, total) + 1, dtype=np.int64)
            pattern, available, outcome = causes.draw(len(subjects), rng)
            split = np.searchsorted(np.cumsum([0.7, 0.15]), rng.random(len(subjects)), side="right")
            late = split == SPLITS.index("held_out")
            if causes.held_out is not causes:
                available[late] = causes.held_out.draw_availability(pattern[late], rng)
            people = Patients(
                subjects, causes.patterns[pattern], causes.availability[available], outcome, *admissions(subjects, rng)
            )
            write_table(_shard(folder, people, causes, rng), folder / "data" / f"{shard:05d}.parquet")
            np.add.at(counts, (split, pattern, available, outcome.astype(int)), 1)
            rare.add(people, split)
            sets.add(shard, people, pattern, available, split)
            labels.append(_labels(people))
            splits.append(pl.DataFrame({"subject_id": subjects, "split": np.array(SPLITS)[split].tolist()}))
            advance(len(subjects))
    write_table(pl.concat(labels), folder / "labels" / "outcome.parquet")
    write_table(pl.concat(splits), folder / "metadata" / "subject_splits.parquet")
    return {**arguments, **_truth(causes, counts), **rare.truth(), **sets.write(folder)}


def _labels(people: Patients) -> pl.DataFrame:
    times = pl.Series(people.predicted).cast(pl.Datetime("us"))
    return pl.DataFrame({"subject_id": people.subjects, "prediction_time": times, "boolean_value": people.outcome})


def _shard(folder: Path, people: Patients, causes: Causes, rng: np.random.Generator) -> pl.DataFrame:
    parts = coded_events(people, causes.recipe, rng)
    everything = pl.concat(
        [*parts, _notes(people, rng, causes.recipe.clutter), _images(folder, people, rng)], how="diagonal"
    )
    units = pl.DataFrame(
        {"code": list(vocabulary.MEASUREMENTS), "unit": [unit for _, unit in vocabulary.MEASUREMENTS.values()]}
    )
    sites = pl.DataFrame({"subject_id": people.subjects, "site": people.sites.tolist()})
    everything = everything.join(units, on="code", how="left", maintain_order="left")
    everything = everything.join(sites, on="subject_id", how="left", maintain_order="left")
    everything = everything.with_columns(pl.col("text_value").cast(pl.String))
    return everything.select(_COLUMNS).sort("subject_id", "time", nulls_last=False, maintain_order=True)


def _notes(people: Patients, rng: np.random.Generator, clutter: float) -> pl.DataFrame:
    """Admission, progress and radiology notes of those who have notes; a discharge summary, too late, of everybody."""
    rows: list[tuple[int, int, str, str]] = []
    has, causes = people.has("notes"), people.cause("note")
    hours = rng.uniform(1, 20, (len(has), 3)) * HOUR
    for i, (subject, admitted, left) in enumerate(zip(people.subjects, people.admitted, people.left, strict=True)):
        if has[i]:
            first, second = ("NOTE//admission", "NOTE//progress")
            rows.append(
                (subject, admitted + int(hours[i, 0]), first, clinical_or_plain(first, causes[i], rng, clutter))
            )
            if rng.random() < 0.7 * clutter:
                rows.append(
                    (subject, admitted + int(hours[i, 1]), second, clinical_or_plain(second, causes[i], rng, clutter))
                )
            if rng.random() < 0.4 * clutter:
                rows.append((subject, admitted + int(hours[i, 2]), "NOTE//radiology", notes.radiology_report(rng)))
        rows.append(
            (subject, int(left) + 2 * HOUR, "NOTE//discharge", notes.discharge_summary(bool(people.outcome[i])))
        )
    schema = {"subject_id": pl.Int64, "time": pl.Int64, "code": pl.String, "text_value": pl.String}
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.with_columns(pl.col("time").cast(pl.Datetime("us")))


def clinical_or_plain(kind: str, cause: int, rng: np.random.Generator, clutter: float) -> str:
    """Write an admission note, which always shows the cause, or a progress note, which does half of the time."""
    if kind == "NOTE//admission":
        return notes.clinical_note(cause, "Admitted through the emergency department.", rng, clutter)
    opening = "Progress note."
    return notes.clinical_note(cause, opening, rng, clutter) if rng.random() < 0.5 else notes.plain_note(opening, rng)


def _images(folder: Path, people: Patients, rng: np.random.Generator) -> pl.DataFrame:
    mine = np.flatnonzero(people.has("images"))
    paths = []
    for part in np.array_split(mine, max(1, len(mine) // 1000)):
        for subject, picture in zip(people.subjects[part], images.draw(people.cause("image")[part], rng), strict=True):
            path = Path("images", f"{subject // 1000:05d}", f"{subject}.png")
            if subject % 1000 == 0 or not (folder / path.parent).is_dir():
                (folder / path.parent).mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(images.png(picture))
            paths.append(path.as_posix())
    times = people.admitted[mine] + (rng.uniform(1, 22, len(mine)) * HOUR).astype(np.int64)
    table = frame(people.subjects[mine], times, np.full(len(mine), "IMAGE//chest_xray", object))
    return table.with_columns(pl.Series("image_path", paths, dtype=pl.String))


def _truth(causes: Causes, counts: NDArray[np.float64]) -> dict[str, Any]:
    """Say what can be reached: by everything, by single modalities and pairs, in the population and in each split."""
    recipe = causes.recipe
    everything = tuple(name for names in list(subsets())[-1:] for name in names)
    population = {"+".join(names): round(causes.auroc(names), 4) for names in subsets()}
    singles = {name: population[name] for name in everything}
    by_split = {
        split: {"+".join(names): round(reader.auroc(names, counts[i]), 4) for names in subsets()}
        for i, (split, reader) in enumerate(zip(SPLITS, (causes, causes, causes.held_out), strict=True))
    }
    return {
        "story": recipe.story,
        "causes": list(CAUSES),
        "weights": {cause: recipe.weights.get(cause, 0.0) for cause in CAUSES},
        "synergy": recipe.synergy,
        "prevalence": round(float(counts[..., 1].sum() / counts.sum()), 4),
        "bayes_auroc": {"population": population["+".join(everything)]}
        | {split: values["+".join(everything)] for split, values in by_split.items()},
        "bayes_auroc_single": singles,
        "bayes_auroc_subsets": population,
        "bayes_auroc_subsets_held_out": by_split["held_out"],
        "best_single_modality": max(singles, key=lambda name: singles[name]),
        "fusions_that_can": list(recipe.can),
        "fusions_that_cannot": list(recipe.cannot),
    }


class _DrugSets:
    """Which drugs patients are given, where the recipe has such a label."""

    def __init__(self, causes: Causes, seed: int) -> None:
        self.causes, self.seed = causes, seed
        self.parts: list[tuple[NDArray[Any], ...]] = []

    def add(self, shard: int, people: Patients, pattern: Any, available: Any, split: Any) -> None:
        """Draw the drugs of a shard."""
        if self.causes.recipe.drugs:
            given = drugs.draw(self.causes, pattern, self.seed, shard)
            self.parts.append((people.subjects, people.predicted, pattern, available, split, given))

    def write(self, folder: Path) -> dict[str, Any]:
        """Write a label file a drug and what interacts, and return what is true of each split."""
        if not self.parts:
            return {}
        subjects, times, pattern, available, split, given = (
            np.concatenate(each) for each in zip(*self.parts, strict=True)
        )
        keys = {"subject_id": subjects, "prediction_time": pl.Series(times).cast(pl.Datetime("us"))}
        for place in ("labels", "tasks"):
            (folder / place / drugs.LABEL).mkdir(parents=True)
        for name, column in zip(drugs.names(), given.T, strict=True):
            write_table(
                pl.DataFrame({**keys, "boolean_value": column}), folder / "labels" / drugs.LABEL / f"{name}.parquet"
            )
        pairs = pl.DataFrame(drugs.INTERACTIONS, schema=["first", "second"], orient="row")
        pairs.write_csv(folder / "tasks" / drugs.LABEL / "interactions.csv")
        rows = {name: np.flatnonzero(split == place) for place, name in enumerate(SPLITS)}
        true = {name: drugs.truth(self.causes, pattern[i], available[i], given[i]) for name, i in rows.items()}
        return {"drugs": true}


class _RareLeaves:
    """How well one could do on held-out patients knowing only leaves that training showed often enough."""

    def __init__(self, causes: Causes, often: int = 5, most: int = 300_000) -> None:
        self.relevant = "family" in causes.recipe.weights and not causes.recipe.shared
        self.often, self.most = often, most
        self.parts: list[tuple[NDArray[Any], ...]] = []
        self.count = 0

    def add(self, people: Patients, split: NDArray[np.int64]) -> None:
        """Remember the leaves of a shard, as long as there are few enough."""
        self.count += len(split)
        if self.relevant and self.count <= self.most:
            there = people.has("codes")
            self.parts.append(
                (people.leaves[there], people.cause("family")[there], split[there], people.outcome[there])
            )

    def truth(self) -> dict[str, Any]:
        """Return the share of held-out patients with a known leaf, and the AUROC that the known leaves allow."""
        if not self.relevant or self.count > self.most:
            return {}
        leaves, family, split, outcome = (np.concatenate(each) for each in zip(*self.parts, strict=True))
        pool = int(leaves.max()) + 1
        number = leaves + family[:, None].astype(np.int64) * pool
        seen = np.bincount(number[split == 0].ravel(), minlength=2 * pool)
        late = split == 2
        known = (seen[number[late]] >= self.often).any(1)
        score = np.where(known, family[late].astype(float), 0.5)
        counts = np.stack([~outcome[late], outcome[late]], axis=1).astype(float)

        return {
            "rare_leaves": {
                "seen_at_least": self.often,
                "held_out_share_known": round(float(known.mean()), 4),
                "held_out_auroc_known_leaves_only": round(weighted_auroc(score, counts), 4),
            }
        }
