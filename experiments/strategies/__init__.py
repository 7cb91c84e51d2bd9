"""Training strategies: what a run does beside the task's loss, an axis apart from the architecture.

Each is a setting of `training`, so it is searched as the learning rate is. A strategy may add named losses, change the
encoders' gradients before a step, and learn from the losses at the end of an epoch.
"""

from collections.abc import Callable, Mapping
from typing import Any

from experiments.averaging import WeightAverage
from experiments.optimizer import layer_scales
from experiments.strategies.alignment import Alignment
from experiments.strategies.balance import InfoReg, OgmGe
from experiments.strategies.blending import GradientBlend
from experiments.strategies.compose import Step, Strategies, make_strategies
from experiments.strategies.interactions import InteractionControl
from experiments.strategies.probes import Probes
from fusion.criterion import Criterion
from fusion.model import drop_modalities

STRATEGIES: Mapping[str, Callable[..., Any]] = {
    "modality_dropout": drop_modalities,
    "unimodal_loss": Probes,
    "balance: ogm_ge": OgmGe,
    "balance: info_reg": InfoReg,
    "balance: gradient_blend": GradientBlend,
    "alignment": Alignment,
    "interaction_target": InteractionControl,
    "class_weights, focal_gamma, label_smoothing": Criterion,
    "average: ema, swa": WeightAverage,
    "layer_decay": layer_scales,
}
"""What documents each setting of `training` that is a strategy."""

__all__ = ["STRATEGIES", "Step", "Strategies", "make_strategies"]
