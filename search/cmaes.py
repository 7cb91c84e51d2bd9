"""Optuna's CMA-ES, whose state comes back from the storage without running what somebody wrote there."""

from __future__ import annotations

import io
import pickle
from typing import Any

from optuna.samplers import CmaEsSampler
from optuna.trial import FrozenTrial

from fusion.component import UsageError

_ALLOWED = {
    ("cmaes._cma", "CMA"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy.core.numeric", "_frombuffer"),
    ("_codecs", "encode"),  # how old protocols write bytes
}


class _Arrays(pickle.Unpickler):
    """Reads an optimizer and the arrays in it, and refuses any other class or function before it is touched."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few things an optimizer is made of."""
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an optimizer")
        return super().find_class(module, name)


class SafeCmaEsSampler(CmaEsSampler):
    """CMA-ES that trusts nothing in the storage.

    Optuna keeps the optimizer pickled in attributes of trials, and unpickles it in every worker: whoever may write to
    the database could run code there. Here only the optimizer's own class and arrays are accepted.
    """

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        """Return the newest optimizer in the storage, None where there is none.

        Raises:
            UsageError: what is stored is something else.
        """
        for trial in reversed(completed_trials):
            parts = {
                name: text for name, text in trial.system_attrs.items() if name.startswith(self._attr_key_optimizer)
            }
            if parts:
                try:
                    return _Arrays(io.BytesIO(bytes.fromhex(self._concat_optimizer_attrs(parts)))).load()
                except Exception as error:  # bytes that are no pickle fail in many ways
                    raise UsageError(
                        f"the state of cmaes in the study storage is not what cmaes writes ({error}); do not trust it"
                    ) from None
        return None
