"""The tables of the OMOP common data model 5.3 and 5.4: which are read, which not and why, and where they lie."""

from __future__ import annotations

from pathlib import Path

from experiments.sources.pieces import SUFFIXES
from fusion.component import UsageError

EVENT_TABLES = (
    "visit_occurrence",
    "visit_detail",
    "condition_occurrence",
    "drug_exposure",
    "procedure_occurrence",
    "device_exposure",
    "measurement",
    "observation",
    "death",
    "note",
)
VOCABULARY = ("concept", "concept_ancestor", "concept_relationship")
NOT_TAKEN = {
    **dict.fromkeys(("condition_era", "drug_era", "dose_era"), "made of other tables"),
    **dict.fromkeys(("episode", "episode_event"), "made of other tables"),
    **dict.fromkeys(("cost", "payer_plan_period"), "about money"),
    **dict.fromkeys(("note_nlp", "fact_relationship"), "about rows of other tables"),
    **dict.fromkeys(("cohort", "cohort_definition"), "made of other tables"),
    "observation_period": "when a patient was under observation, not what was observed",
    "specimen": "the sample; its results are in measurement",
}
ABOUT_NOBODY = (
    *("care_site", "cdm_source", "concept_class", "concept_synonym", "domain", "drug_strength", "location"),
    *("location_history", "metadata", "provider", "relationship", "source_to_concept_map", "vocabulary"),
)

UNKNOWN = "no table of the common data model"


def find_tables(src: Path) -> dict[str, Path]:
    """Find the tables of a folder by their names in lower case.

    Raises:
        UsageError: the folder is none, or has no table of persons.
    """
    if not src.is_dir():
        raise UsageError(f"{src} is no folder; wanted one with the tables of OMOP (person.csv, ...)")
    found: dict[str, Path] = {}
    for path in sorted(src.iterdir()):
        suffix = next((each for each in SUFFIXES if path.name.lower().endswith(each)), None)
        if suffix and path.is_file():
            found.setdefault(path.name.lower().removesuffix(suffix), path)
    if "person" not in found:
        raise UsageError(
            f"{src}: person.csv, person.csv.gz or person.parquet is missing; OMOP cannot be read without it"
        )
    return found
