"""A hospital's own tables, described in YAML, as a MEDS folder."""

from experiments.sources.tabular.convert import convert_tables
from experiments.sources.tabular.mapping import Mapping, load_mapping, mapping_schema

__all__ = ["Mapping", "convert_tables", "load_mapping", "mapping_schema"]
