"""The packages of the extra `ontologies`: where their data lie and which release is installed; imports none."""

from __future__ import annotations

from importlib import metadata, util
from pathlib import Path

from fusion.component import UsageError


def data_file(ontology: str, distribution: str, package: str, name: str) -> Path:
    """Return where an installed package keeps a file of data.

    Raises:
        UsageError: the package is not installed, or its release has no such file.
    """
    found = util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise missing(ontology, distribution)
    path = Path(next(iter(found.submodule_search_locations))) / name
    if not path.is_file():
        raise UsageError(f"{ontology}: {distribution} {release(distribution)} has no {name}; install another release")
    return path


def missing(ontology: str, distribution: str) -> UsageError:
    """Make the error for a package that is not installed."""
    return UsageError(f"{ontology} needs {distribution}; install it with: pip install 'ehrfusion[ontologies]'")


def release(distribution: str) -> str:
    """Return the installed release of a package; what the data are without its metadata is not known."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of an unknown release"
