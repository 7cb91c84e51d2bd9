"""What is installed, which devices there are, and whether everything a study needs answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

from experiments.services import Check, storage_check, studies_check, tracking_check
from experiments.tracking.address import resolve_uri
from experiments.versions import PACKAGES, package_version, package_versions

OURS = ("fusion", "encoders", "search", "experiments")
LOW_DISK, NO_DISK = 5 * 2**30, 2**29
SHARED = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "lustre",
    "beegfs",
    "gpfs",
    "ceph",
    "fuse.sshfs",
    "9p",
    "afs",
)


def diagnose(runs: Path, *, tracking: str | None = None, storage: str | None = None) -> list[Check]:
    """Look at everything; takes seconds, also where a server does not answer, and changes nothing.

    Args:
        runs: the folder of studies.
        tracking: the tracker's address; MLFLOW_TRACKING_URI or the default where it is not given.
        storage: a study storage URL to try; the studies in the runs folder where it is not given.
    """
    return [
        python_check(),
        packages_check(),
        names_check(_owners(), {name: _home(name) for name in OURS}),
        torchvision_check(_needs("torchvision")),
        devices_check(),
        disk_check(runs),
        filesystem_check(runs),
        tracking_check(resolve_uri(tracking, runs)),
        storage_check(storage) if storage else studies_check(runs),
    ]


def failed(checks: Sequence[Check]) -> bool:
    """Tell whether anything will not work."""
    return any(check.status == "fail" for check in checks)


def render(checks: Sequence[Check]) -> Any:
    """Return a rich table of the checks."""
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    table = Table("check", "", "what was found")
    for check in checks:
        table.add_row(check.name, Text(check.status, styles[check.status]), Text(check.detail))
    return table


def python_check() -> Check:
    """Check Python's version."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("python", "fail", f"{version}; needs 3.11 to 3.13")
    return Check("python", "ok", f"{version} at {sys.executable}")


def packages_check() -> Check:
    """Check that the packages are there in versions that the distribution allows."""
    found = package_versions()
    missing = [name for name in PACKAGES if name not in found and name != "ehrfusion"]
    shown = ", ".join(f"{name} {version}" for name, version in found.items() if name != "python")
    if missing:
        return Check("packages", "fail", f"missing: {', '.join(missing)}; pip install {' '.join(missing)}")
    if "ehrfusion" not in found:
        return Check("packages", "warn", f"ehrfusion is not installed (pip install -e .); {shown}")
    outside = list(_outside(metadata.requires("ehrfusion") or []))
    if outside:
        return Check("packages", "warn", f"outside the declared versions: {'; '.join(outside)}")
    return Check("packages", "ok", shown)


def _outside(requirements: Sequence[str]) -> Iterator[str]:
    from packaging.requirements import Requirement

    for text in requirements:
        wanted = Requirement(text)
        version = package_version(wanted.name)
        if wanted.marker is None and version and not wanted.specifier.contains(version, prereleases=True):
            yield f"{wanted.name} {version}, needs {wanted.specifier}"


def names_check(owners: Mapping[str, Sequence[str]], homes: Mapping[str, Path | None]) -> Check:
    """Check that nobody else has packages of our names.

    Args:
        owners: the distributions that install each top-level package.
        homes: the folder each of our packages would be imported from.
    """
    ours = Path(__file__).resolve().parents[1]
    for name in OURS:
        others = sorted(set(owners.get(name, ())) - {"ehrfusion"})
        if others:
            advice = f"pip uninstall {' '.join(others)}, or use an environment of its own"
            return Check("package names", "fail", f"'{name}' also belongs to {', '.join(others)}; {advice}")
        home = homes.get(name)
        if home is not None and home != ours:
            return Check("package names", "fail", f"'{name}' is imported from {home}, not from {ours}")
    return Check("package names", "ok", f"{', '.join(OURS)} from {ours}")


def _needs(package: str) -> list[str]:
    try:
        return metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []


def _owners() -> Mapping[str, Sequence[str]]:
    return metadata.packages_distributions()


def _home(name: str) -> Path | None:
    spec = util.find_spec(name)
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or [])
    return Path(places[0]).resolve().parent if places else None


def torchvision_check(needs: Sequence[str]) -> Check:
    """Check that torchvision loads, works and was made for this torch.

    Args:
        needs: what torchvision's metadata requires.
    """
    from packaging.requirements import Requirement

    code = (
        "import torch, torchvision; print(torch.__version__, torchvision.__version__);"
        " torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return Check("torchvision", "fail", "importing it takes longer than two minutes")
    wanted = next((str(each.specifier) for each in map(Requirement, needs) if each.name == "torch"), "")
    advice = f"; this torchvision needs torch {wanted}" if wanted else ""
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it crashed"])[-1][:160]
        return Check("torchvision", "fail", f"does not work with torch {package_version('torch')}: {last}{advice}")
    torch, torchvision = done.stdout.split()[:2]
    return pair_check(torch, torchvision, wanted)


def pair_check(torch: str, torchvision: str, wanted: str) -> Check:
    """Check a torch version and build against what torchvision needs (`==2.10.0`, `>=2.14`, or nothing)."""
    from packaging.specifiers import SpecifierSet

    pair = f"torch {torch}, torchvision {torchvision}"
    if not SpecifierSet(wanted).contains(torch.partition("+")[0], prereleases=True):
        return Check("torchvision", "warn", f"{pair}; this torchvision needs torch {wanted}")
    builds = {each.partition("+")[2] for each in (torch, torchvision)} - {""}
    if len(builds) > 1:
        return Check("torchvision", "warn", f"{pair}; they are builds for different devices")
    return Check("torchvision", "ok", pair)


def devices_check() -> Check:
    """Say which devices torch sees."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("devices", "fail", f"torch does not load: {' '.join(str(error).split())[:160]}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        shown = ", ".join(f"{each.name} ({each.total_memory / 2**30:.0f} GiB)" for each in names)
        return Check("devices", "ok", f"{shown}; {cores} CPU cores")
    if Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi"):
        built = torch.version.cuda or "no CUDA"
        return Check(
            "devices",
            "warn",
            f"an NVIDIA driver, but torch ({built}) sees no GPU; {cores} CPU cores",
        )
    if torch.backends.mps.is_available():
        return Check("devices", "ok", f"Apple GPU (not used by ehrfusion); {cores} CPU cores")
    return Check("devices", "ok", f"{cores} CPU cores, no GPU")


def disk_check(runs: Path) -> Check:
    """Check that the runs folder can be written and has room."""
    place = _existing(runs)
    if not os.access(place, os.W_OK):
        return Check("disk", "fail", f"{place} cannot be written")
    free = shutil.disk_usage(place).free
    status: Literal["ok", "warn", "fail"] = "fail" if free < NO_DISK else "warn" if free < LOW_DISK else "ok"
    return Check("disk", status, f"{free / 2**30:.1f} GiB free for {runs}")


def filesystem_check(runs: Path, mounts: Path = Path("/proc/mounts")) -> Check:
    """Check that the runs folder is on a local disk, which SQLite's write-ahead log needs."""
    place = str(_existing(runs).resolve())
    best, kind = "", "unknown"
    lines = mounts.read_text(encoding="utf-8").splitlines() if mounts.is_file() else []
    for line in lines:
        _, mount, fstype, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        if (place + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
            best, kind = mount, fstype
    if kind in SHARED:
        advice = "keep runs on a local disk, or set search.storage to a PostgreSQL URL"
        return Check("file system", "warn", f"{runs} is on {kind}, where SQLite is not safe; {advice}")
    return Check("file system", "ok", f"{kind}" if lines else "not known on this system")


def _existing(path: Path) -> Path:
    path = path.resolve()
    return next(each for each in (path, *path.parents) if each.exists())
