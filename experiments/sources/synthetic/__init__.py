"""Synthetic records with planted causes, so that the best possible score and what must win are known."""

from experiments.sources.synthetic.recipes import RECIPES, Recipe
from experiments.sources.synthetic.write import write_synthetic

__all__ = ["RECIPES", "Recipe", "write_synthetic"]
