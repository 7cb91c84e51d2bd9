"""From a MEDS folder to batches: folders, cohorts, splits, records, packed tensors."""
