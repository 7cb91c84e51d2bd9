"""The code MLflow runs to load and ask a registered model; everything it does is in this package."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model

from experiments.tracking.quietly import pyfunc


class EhrFusionModel(pyfunc.PythonModel):  # type: ignore[misc]  # mlflow has no types
    """A bundle behind MLflow's interface: rows of patients in, probabilities out."""

    def load_context(self, context: Any) -> None:
        """Verify and load the bundle; MLflow passes the context by this name."""
        from experiments.bundle import load_bundle

        self.predictor = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """Predict each row; what a patient lacks is a column left out or None."""
        from experiments.tracking.columns import prediction_frame, records

        with tempfile.TemporaryDirectory() as folder:
            found = self.predictor.predict_records(records(model_input, Path(folder)))
        return prediction_frame(self.predictor.task, found)


set_model(EhrFusionModel())
