"""What turns fused vectors of patients into logits."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from encoders.molecules.head import MoleculeHead

LINEAR = "linear"
HEADS: Mapping[str, type] = {LINEAR: nn.Linear, "molecules": MoleculeHead}
"""Built with the width and the number of outputs. Shape: (..., D) -> (..., K)."""
