"""Which versions of which packages run, without importing them."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = (
    "ehrfusion",
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "torch-geometric",
    "optuna",
    "mlflow",
    "meds",
    "polars",
    "pyarrow",
    "numpy",
    "safetensors",
)


def package_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Return the installed version of each package that is there, and Python's."""
    found = {"python": platform.python_version()}
    for package in packages:
        version = package_version(package)
        if version is not None:
            found[package] = version
    return found


def package_version(package: str) -> str | None:
    """Return the installed version of a package, None where it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def requirement(package: str) -> str:
    """Return a pip requirement of the version that runs (`torch==2.10.0`), without a build's local suffix."""
    version = package_version(package)
    return f"{package}=={version.partition('+')[0]}" if version else package
