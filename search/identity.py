"""Who runs a trial: names of worker processes that no other process will ever have, and whether they live."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

_OUTSIDE = "4026531836"  # what Linux numbers the processes of those in no container by


def worker_id(pid: int, nonce: str) -> str:
    """Name a process so that it can never be mistaken for another: host, boot, process and its start, a random part."""
    return f"{os.uname().nodename}:{boot_id()}:{pid}-{_start_of(pid)}:{nonce}"


def boot_id() -> str:
    """Return what changes when the machine restarts; in a container also whose numbers its processes have."""
    path = Path("/proc/sys/kernel/random/boot_id")
    boot = path.read_text(encoding="ascii").strip()[:8] if path.exists() else str(int(psutil.boot_time()))
    numbers = Path("/proc/self/ns/pid")
    space = str(numbers.readlink()).strip("pid:[]") if numbers.is_symlink() else _OUTSIDE
    return boot if space == _OUTSIDE else f"{boot}-{space}"


def lives(worker: str) -> bool:
    """Tell whether a worker of this host still runs; one of another host or container is given the benefit of doubt.

    Containers that share the host's network share its name, but each counts its processes from 1.
    """
    host, boot, process, _ = worker.rsplit(":", 3)
    if host != os.uname().nodename or _in_another_container(boot):
        return True
    pid, _, start = process.partition("-")
    try:
        alive = psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return alive and boot == boot_id() and start == _start_of(int(pid))  # numbers of processes are used again


def lives_here(worker: str) -> bool:
    """Tell whether a worker is a process of this host that runs; False also for one of another host."""
    host, _, rest = worker.partition(":")
    boot = rest.partition(":")[0]
    return host == os.uname().nodename and not _in_another_container(boot) and lives(worker)


def _in_another_container(boot: str) -> bool:
    mine, numbers = boot_id().partition("-")[::2]
    return boot.partition("-")[0] == mine and boot.partition("-")[2] != numbers


def _start_of(pid: int) -> str:
    """Return when a process started, in ticks that no clock change moves; empty where it is gone."""
    try:
        if Path("/proc/self/stat").exists():
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        return str(int(psutil.Process(pid).create_time()))
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return ""
