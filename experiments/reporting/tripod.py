"""Which items of the TRIPOD+AI checklist a comparison's page answers, and which its authors must.

Reference:
    Collins et al., TRIPOD+AI statement: updated guidance for reporting clinical prediction models that use regression
    or machine learning methods, 2024 (BMJ 385:e078378). The numbers are the checklist's, the words our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from experiments.reporting.page import Part, folded, paragraph
from experiments.reporting.table import table

if TYPE_CHECKING:
    from experiments.comparison import Comparison
    from experiments.section import Section

COVERED, PARTLY, NOT = "covered", "partly", "not"


class Item(NamedTuple):
    """An item of the checklist: its number, whether the page answers it, and how."""

    number: str
    answered: str
    how: str


_FIXED = (
    Item("1", PARTLY, "the title names the study; whom it is about and the outcome are for the authors to add"),
    Item("2", NOT, "no structured abstract is written"),
    Item("3a", NOT, "the clinical setting, and models that exist already"),
    Item("3b", NOT, "for whom the model is meant, and where in care it would be used"),
    Item("3c", NOT, "what is known of unequal care between groups"),
    Item("4", PARTLY, "the question is which fusion predicts best; why it is asked is for the authors"),
    Item("5a", PARTLY, "the data are named by fingerprint; where they come from and whom they stand for is not said"),
    Item("5b", NOT, "from when to when patients were included"),
    Item("6a", NOT, "which kind of care, how many hospitals and where"),
    Item("6b", PARTLY, "how many are left after each step, where the data folder says so; why is for the authors"),
    Item("6c", NOT, "which treatments patients had"),
    Item("7", PARTLY, "how records were prepared is in the settings; the leakage audit says what was checked"),
    Item("8a", PARTLY, "the label is named in the settings; what it means clinically is not said"),
    Item("8b", NOT, "who judged the outcome, where judgement was needed"),
    Item("8c", NOT, "whether those who judged it were blinded"),
    Item("9a", PARTLY, "all records of each modality are read; why these modalities is for the authors"),
    Item("9b", PARTLY, "only records from before the prediction time are read; how they were measured is not said"),
    Item("9c", NOT, "who judged predictors, where judgement was needed"),
    Item("11", COVERED, "a modality that a patient lacks is masked, not imputed; nobody is left out for it"),
    Item("12a", COVERED, "patients are learned from, tuned on or held out, each in one of these only"),
    Item("12b", PARTLY, "scales are learned from training patients; the settings name the preparation"),
    Item("12c", COVERED, "architecture, budget of training, seeds and how the architecture was chosen"),
    Item("12d", NOT, "whether hospitals differ was not modelled"),
    Item("12e", COVERED, "every metric, with its interval, and how strategies are tested against each other"),
    Item("12g", COVERED, "predictions come from the code at the commit that is named, by the commands on the page"),
    Item("13", PARTLY, "weights of classes are in the settings where they were used"),
    Item("17", NOT, "ethical approval and consent"),
    Item("18a", NOT, "who paid, and what part they had"),
    Item("18b", NOT, "interests of the authors"),
    Item("18c", PARTLY, "the primary metric was written down before training; there is no protocol"),
    Item("18d", NOT, "whether the study was registered"),
    Item("18e", NOT, "whether others may have the data; the fingerprint tells whether they have the same"),
    Item("18f", COVERED, "the code is at the commit that is named; settings and commands are on the page"),
    Item("19", NOT, "whether patients or the public took part"),
    Item("20a", PARTLY, "patients and outcomes are counted; how long they were followed is not said"),
    Item("20b", NOT, "a table of who the patients are"),
    Item("20c", NOT, "how held-out patients differ from those learned from"),
    Item("21", COVERED, "patients and outcomes of every split are counted"),
    Item("22", PARTLY, "a registered model can be loaded and run by others; this page compares strategies"),
    Item("24", NOT, "what updating a model changed"),
    Item("25", PARTLY, "the verdict says what is shown and what is not; what it means for care is for the authors"),
    Item("26", PARTLY, "warnings and notes name what limits these numbers; other limits are for the authors"),
    Item("27a", PARTLY, "a model runs without any of its modalities; when it should be trusted is not said"),
    Item("27b", NOT, "what users would have to do and know"),
    Item("27c", NOT, "which studies should follow"),
)


_HANGING = (
    ("external", Item("16", PARTLY, "patients of another site are shown apart from held-out ones of the same source"),
     Item("16", PARTLY, "held-out patients are of the same source as those learned from")),
    ("power", Item("10", PARTLY, "the smallest difference that these patients could show, computed before training"),
     Item("10", NOT, "no computation of how many patients are needed")),
    ("recalibration", Item("12f", PARTLY, "what recalibration on tuning patients would change; no model was updated"),
     Item("12f", NOT, "whether a model was updated or recalibrated after it was tested")),
    ("subgroups", Item("14", PARTLY, "scores are shown by group; nothing was done to make them alike"),
     Item("14", NOT, "nothing was done about fairness, and no group was looked at")),
    ("alerts", Item("15", COVERED, "models give probabilities; thresholds of alerts are chosen on tuning patients"),
     Item("15", PARTLY, "models give probabilities, or values in the unit of the outcome; no threshold is chosen")),
    ("subgroups", Item("23a", COVERED, "scores with intervals, also by group"),
     Item("23a", PARTLY, "scores with intervals, but not by group")),
    ("folds", Item("23b", PARTLY, "how scores vary over folds; of hospitals with compare.folds_by: site only"),
     Item("23b", NOT, "whether scores vary between hospitals")),
)  # fmt: skip
"""What an item hangs on (a table of a section, or something about the comparison), and the item with and without it."""


def items(comparison: Comparison, sections: Sequence[Section] = ()) -> list[Item]:
    """Return every item of the checklist in its order; some hang on what the page holds."""
    there = {name for each in sections for name in each.tables}
    there |= {"folds"} & set(comparison.about)
    there |= {"power"} if "smallest difference in" in str(comparison.about.get("power", "")) else set()
    hanging = [with_it if what in there else without for what, with_it, without in _HANGING]
    return sorted([*_FIXED, *hanging], key=_place)


def tripod_part(comparison: Comparison, sections: Sequence[Section] = ()) -> Part:
    """Return the checklist with what this page answers."""
    found = items(comparison, sections)
    count = {kind: sum(item.answered == kind for item in found) for kind in (COVERED, PARTLY, NOT)}
    words = (
        f"Of the {len(found)} items that TRIPOD+AI asks of a paper on a prediction model (Collins et al., BMJ 2024), "
        f"this page covers {count[COVERED]}, answers {count[PARTLY]} in part and leaves {count[NOT]} to the authors. "
        "The numbers are the checklist's, the words ours."
    )
    rows = [list(item) for item in found]
    return Part(
        "TRIPOD+AI checklist",
        [paragraph(words), folded("Every item", [table(["item", "answered", "how, or what is missing"], rows)])],
    )


def _place(item: Item) -> tuple[int, str]:
    digits = item.number.rstrip("abcdefg")
    return int(digits), item.number
