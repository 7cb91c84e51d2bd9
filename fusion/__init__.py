"""What fusing is: tokens of modalities in, views of patients out. Imports torch only and knows no encoder."""

from fusion.component import (
    Architecture,
    Choice,
    Float,
    Hyperparameter,
    Int,
    Spec,
    UsageError,
    build,
    find,
    hyperparameters,
)
from fusion.cross_attention import CrossAttentionFusion
from fusion.early import EarlyFusion
from fusion.late import LateFusion
from fusion.model import Fused, FusionModel
from fusion.task import Task, activate, loss
from fusion.tokens import Tokens

FUSIONS: dict[str, type] = {
    "early": EarlyFusion,
    "late": LateFusion,
    "cross_attention": CrossAttentionFusion,
}

__all__ = [
    "FUSIONS",
    "Architecture",
    "Choice",
    "CrossAttentionFusion",
    "EarlyFusion",
    "Float",
    "Fused",
    "FusionModel",
    "Hyperparameter",
    "Int",
    "LateFusion",
    "Spec",
    "Task",
    "Tokens",
    "UsageError",
    "activate",
    "build",
    "find",
    "hyperparameters",
    "loss",
]
