"""Any MEDS dataset: used in place, with what it lacks beside it, or copied in one spelling."""

from experiments.sources.meds.convert import convert_meds
from experiments.sources.meds.place import use_in_place

__all__ = ["convert_meds", "use_in_place"]
