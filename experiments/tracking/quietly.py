"""MLflow's pyfunc without the warnings that MLflow's own code causes and no user can act on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    """Ignore warnings while MLflow works."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


with quietly():
    import mlflow.pyfunc  # not `from mlflow import pyfunc`, which would put the import off

pyfunc = mlflow.pyfunc
