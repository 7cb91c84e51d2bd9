"""A small Ray cluster of two nodes on this machine; skips with the reason where Ray is not installed."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
_LIGHT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_agent_register_timeout_ms": "600000",  # a busy machine takes its time
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each; workers find this project and its tests wherever pytest found them."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed (pip install 'ehrfusion[ray]')")
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path)]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**_LIGHT, "PYTHONPATH": os.pathsep.join(paths)}.items():
            patch.setenv(name, value)
        import ray
        from ray._private import services
        from ray.cluster_utils import Cluster

        known = services.get_node

        def patient(*arguments: Any) -> Any:
            """Ask for a node that starts until it is there, also on a machine that takes longer than Ray waits."""
            for _ in range(1000):
                try:
                    return known(*arguments)
                except RuntimeError:
                    time.sleep(0.3)
            return known(*arguments)

        patch.setattr(services, "get_node", patient)
        made = Cluster(initialize_head=True, head_node_args=_NODE)
        try:
            made.second = made.add_node(**_NODE)
            ray.init(address=made.address, log_to_driver=False, configure_logging=False)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()
