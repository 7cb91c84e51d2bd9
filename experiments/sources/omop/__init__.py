"""The OMOP common data model as a MEDS folder."""

from experiments.sources.omop.convert import convert_omop

__all__ = ["convert_omop"]
