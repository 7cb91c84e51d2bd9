"""DataFrames with a patient a row: which column is which modality, the records in them, a data folder of them."""

from experiments.sources.frames.columns import columns_by_modality
from experiments.sources.frames.folder import write_frame
from experiments.sources.frames.huggingface import from_huggingface, to_huggingface
from experiments.sources.frames.pyhealth import from_pyhealth, to_pyhealth
from experiments.sources.frames.records import frame_records

__all__ = [
    "columns_by_modality",
    "frame_records",
    "from_huggingface",
    "from_pyhealth",
    "to_huggingface",
    "to_pyhealth",
    "write_frame",
]
