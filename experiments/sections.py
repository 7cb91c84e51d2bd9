"""What a comparison's report says beyond metrics and differences; a part is a function in `SECTIONS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from experiments.clinical.calibration import calibration_section
from experiments.clinical.conformal import conformal_section
from experiments.clinical.decisions import decisions_section
from experiments.clinical.drug_sets import drug_sets_section
from experiments.clinical.external import external_section
from experiments.clinical.subgroups import subgroups_section
from experiments.comparison import Comparison
from experiments.config import Config
from experiments.data.store import Store
from experiments.explaining.contributions import modality_values
from experiments.explaining.removal import missing_modalities
from experiments.held_out import HeldOut
from experiments.scoring import Tested
from experiments.section import Section


class Findings(NamedTuple):
    """What a part is made from: the comparison, and the predictions behind it.

    Args:
        stores: one a fold; all of the same patients.
        external: patients of another folder, whom every run predicted too.
    """

    config: Config
    stores: Sequence[Store]
    held_out: HeldOut
    comparison: Comparison
    external: Store | None = None

    def tested(self) -> Tested:
        """Return the tested rows with the resamples of the comparison."""
        compare, held_out = self.config.compare, self.held_out
        return Tested.of(
            held_out.target,
            held_out.subject_ids,
            held_out.fold,
            resamples=compare.resamples,
            seed=self.config.seed,
            bca=compare.interval == "bca",
        )


SECTIONS: tuple[Callable[[Findings], Section | None], ...] = (
    calibration_section,
    decisions_section,
    conformal_section,
    drug_sets_section,
    subgroups_section,
    external_section,
    modality_values,
    missing_modalities,
)
"""In the order of the report; a part that these patients or models cannot answer returns None."""


def sections(findings: Findings) -> list[Section]:
    """Return every part that can be answered."""
    found = (make(findings) for make in SECTIONS)
    return [each for each in found if each is not None]
