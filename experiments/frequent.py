"""Which codes a model's training patients have most often, in plain words, for its card."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from encoders.preprocessor import Preparation
from experiments.config import Config
from experiments.data.store import Store
from experiments.glossary import frequent_codes, glosses, read_glossary


def codes_in_words(config: Config, store: Store, plans: Mapping[str, Preparation]) -> dict[str, dict[str, str]]:
    """Return the most frequent codes of each category and what they mean; empty where no numbered codes are read."""
    glossary = read_glossary(config.card.glossary)
    source = store.source(plans["codes"]) if "codes" in plans else None
    codes = getattr(source.preprocessor, "codes", ()) if source is not None else ()
    if source is None or not codes or "codes" not in source.packed.columns:
        return {}
    rows = source.row_index[torch.from_numpy(store.cohort.rows("train"))]
    counts = np.zeros(len(codes) + 1, np.int64)  # the first is of codes that are not known
    offsets, numbers = source.packed.offsets.numpy(), source.packed.columns["codes"].numpy()
    for row in rows[rows >= 0].tolist():
        counts[np.unique(numbers[offsets[row] : offsets[row + 1]])] += 1
    return glosses(frequent_codes(codes, counts[1:]), glossary, store.knowledge().descriptions)
