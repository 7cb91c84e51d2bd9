"""MIMIC-III and MIMIC-IV, demo or full, as a MEDS folder."""

from experiments.sources.mimic.convert import convert_mimic

__all__ = ["convert_mimic"]
