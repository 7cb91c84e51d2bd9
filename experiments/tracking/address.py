"""Where the tracker is, without importing mlflow."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


def resolve_uri(uri: str | None, runs: Path) -> str:
    """Return the configured tracker, else MLFLOW_TRACKING_URI, else a database in the runs folder."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(runs / 'mlflow.db').resolve().as_posix()}"


def known_scheme(uri: str) -> bool:
    """Tell whether a tracker address is of a kind MLflow can keep runs at."""
    return uri == "databricks" or uri.partition("://")[0].partition("+")[0] in SCHEMES


def is_server(uri: str) -> bool:
    """Tell whether runs go over HTTP, so that the server decides where artifacts are kept."""
    return uri.startswith(("http://", "https://", "databricks"))


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite tracker, None for any other."""
    head, separator, path = uri.partition(":///")
    return Path(path) if separator and head.partition("+")[0] == "sqlite" and path else None


def unreachable(uri: str, seconds: float = 5.0) -> str | None:
    """Return why nothing listens at an HTTP address, or None when something does."""
    try:
        parts = urlsplit(uri)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:  # brackets that do not close, a port that is no number
        return f"no address: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname or os.environ.get(f"{parts.scheme}_proxy"):
        return None
    try:
        socket.create_connection((parts.hostname, port), timeout=seconds).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return None
