"""Training strategies: what a run does beside the task's loss, an axis apart from the architecture.

Each is a setting of `training`, so it is searched as the learning rate is. A strategy may add named losses, change the
encoders' gradients before a step, and learn from the losses at the end of an epoch.
"""

from experiments.strategies.compose import Step, Strategies, make_strategies

__all__ = ["Step", "Strategies", "make_strategies"]
