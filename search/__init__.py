"""The search: spaces from components' signatures, studies with exact budgets, storage that many workers share."""

from search.space import Candidate, Space
from search.study import StudySpec, create_or_resume, open_study, summary
from search.trial import Interrupted, Objective, Pruned, TrialFailed, TrialHandle

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
