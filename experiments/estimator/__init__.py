"""Multimodal fusion behind scikit-learn's interface: a DataFrame with a patient a row, `fit` and `predict_proba`."""

from experiments.estimator.classifier import FusionClassifier
from experiments.estimator.regressor import FusionRegressor

__all__ = ["FusionClassifier", "FusionRegressor"]
