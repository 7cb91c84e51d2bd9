"""Ontologies by name or file, and the knowledge graph that a data folder gets from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.ontologies.crosswalk import gem
from experiments.ontologies.diagnoses import icd9cm, icd10cm, icd10pcs
from experiments.ontologies.drugs import atc
from experiments.ontologies.groups import ccs, ccsr
from experiments.ontologies.obo import hpo, obo_file
from experiments.ontologies.ontology import Ontology
from experiments.ontologies.triples import triple_file
from fusion.component import UsageError, unknown

ONTOLOGIES: dict[str, Callable[[], Ontology]] = {
    "icd9cm": icd9cm,
    "icd10cm": icd10cm,
    "icd10pcs": icd10pcs,
    "ccs": ccs,
    "ccsr": ccsr,
    "gem": gem,
    "atc": atc,
    "hpo": hpo,
}
_TABLES = (".csv", ".tsv", ".tab", ".sif", ".txt")

__all__ = ["ONTOLOGIES", "Ontology", "open_ontology"]


def open_ontology(name: str, columns: Sequence[str] | None = None, names: Sequence[str] | None = None) -> Ontology:
    """Return an ontology by its name, or of an OBO, CSV or TSV file; `columns` and `names` say where facts are.

    Raises:
        UsageError: there is no such name or file, the file is of another kind, or a package is missing.
    """
    if name in ONTOLOGIES:
        return ONTOLOGIES[name]()
    path = Path(name)
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if not kind and not path.exists():
        raise unknown("ontology", name, ONTOLOGIES)
    if not path.is_file():
        raise UsageError(f"no such file: {path}; give one, or a name: {', '.join(ONTOLOGIES)}")
    if kind == ".obo":
        return obo_file(path)
    if kind in _TABLES:
        return triple_file(path, columns, names)
    raise UsageError(f"{path}: wanted .obo, {', '.join(_TABLES)}, plain or .gz")
