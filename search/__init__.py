"""The search: spaces from components' signatures, studies with exact budgets, storage that many workers share."""

import optuna

from search.space import Candidate, Space
from search.study import StudySpec, create_or_resume, open_study, summary
from search.trial import Interrupted, Objective, Pruned, TrialFailed, TrialHandle

optuna.logging.set_verbosity(optuna.logging.WARNING)  # the live view says what happens

__all__ = [
    "Candidate",
    "Interrupted",
    "Objective",
    "Pruned",
    "Space",
    "StudySpec",
    "TrialFailed",
    "TrialHandle",
    "create_or_resume",
    "open_study",
    "summary",
]
