"""The eICU Collaborative Research Database, demo or full, as a MEDS folder."""

from experiments.sources.eicu.convert import convert_eicu

__all__ = ["convert_eicu"]
