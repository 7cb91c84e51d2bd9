"""What bookkeeping costs with many workers on PostgreSQL. Run: python benchmarks/scale.py [--workers 256].

Workers are threads in a few processes, each with a storage and connection of its own, that run `take_part` as
`ehrfusion worker` does; their trials sleep and report like trials of some epochs. `--rate` is how many trials a second
they would finish if bookkeeping were free: 256 workers of 60 s trials make 4.27. `--history` puts so many finished
trials, and `--waiting` so many tickets, in the study before. CPU seconds are what a busy machine cannot distort.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from toy_postgres import Server, missing, pooler, postgres
from toy_study import SPACE

from search.joining import take_part
from search.space import Candidate
from search.storage import close_study
from search.study import StudySpec, create_or_resume, issue_tickets, open_study, worker_loop
from search.trial import TrialHandle

EPOCHS = 10


def spec_of(url: str, trials: int, sampler: str) -> StudySpec:
    """Return the study that is measured."""
    return StudySpec("scale", url, "maximize", seed=5, sampler=sampler, pruner="halving", trials=trials)


class Clock:
    """An objective that sleeps and notes how long everything but the sleeping took."""

    def __init__(self, seconds: float, rows: list[dict[str, float]]) -> None:
        self.seconds, self.rows, self.left = seconds, rows, time.monotonic()

    def __call__(self, _: Candidate, trial: TrialHandle) -> float:
        """Be a trial of some epochs that is never pruned."""
        row = {"between": time.monotonic() - self.left, "reports": 0.0}
        seconds = self.seconds * random.Random(trial.number).uniform(0.5, 1.5)  # no two trials take the same time
        for epoch in range(1, EPOCHS + 1):
            time.sleep(seconds / EPOCHS)
            began = time.monotonic()
            trial.report(epoch, 0.5 + trial.number / 1e9, {"train_loss": 0.1, "seconds": 6.0})
            row["reports"] += time.monotonic() - began
        self.rows.append(row)
        self.left = time.monotonic()
        return 0.5 + trial.number / 1e9


def be_workers(settings: Mapping[str, Any], place: int, found: Any) -> None:
    """Be several workers in this process, and put what they measured into a queue."""
    rows: list[dict[str, float]] = []
    began, share = time.process_time(), settings["trials"] / settings["processes"]

    def stop() -> str:
        return "interrupt" if len(rows) >= share else ""

    def run(slot: int) -> None:
        spec = StudySpec(**settings["spec"])
        study = open_study(spec, slot=slot)
        name = f"host-{slot}:boot:1-1:x"
        take_part(study, spec, SPACE, Clock(settings["seconds"], rows), name, stop)

    slots = range(place, settings["workers"], settings["processes"])
    threads = [threading.Thread(target=run, args=(slot,)) for slot in slots]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    found.put((rows, time.process_time() - began))


def grow(url: str, count: int, state: str) -> None:
    """Copy trial 0 in the database so many times, all it noted included, in a state."""
    tables = {
        "trial_params": "param_name, param_value, distribution_json",
        "trial_values": "objective, value, value_type",
        "trial_user_attributes": "key, value_json",
        "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
    }
    engine = create_engine(url)
    with engine.begin() as connection:
        first, number = connection.execute(text("SELECT max(trial_id), max(number) FROM trials")).one()
        connection.execute(
            text(
                "INSERT INTO trials (trial_id, number, study_id, state, datetime_start, datetime_complete) "
                "SELECT :first + i, :number + i, study_id, CAST(:state AS trialstate), datetime_start, "
                "datetime_complete FROM trials, generate_series(1, :count) AS i WHERE number = 0"
            ),
            {"first": first, "number": number, "count": count, "state": state},
        )
        connection.execute(text("SELECT setval('trials_trial_id_seq', (SELECT max(trial_id) FROM trials))"))
        for table, columns in tables.items() if state == "COMPLETE" else ():
            connection.execute(
                text(
                    f"INSERT INTO {table} (trial_id, {columns}) SELECT :first + i, {columns} "
                    f"FROM {table}, generate_series(1, :count) AS i "
                    "WHERE trial_id = (SELECT trial_id FROM trials WHERE number = 0)"
                ),
                {"first": first, "count": count},
            )
        connection.execute(  # no two candidates are alike, or one would be taken for the other's duplicate
            text("UPDATE trial_user_attributes SET value_json = to_json('copy ' || trial_id) WHERE key = 'key'")
        )
        connection.execute(text("ANALYZE"))
    engine.dispose()


def measure(server: Server, options: argparse.Namespace, history: int, waiting: int) -> dict[str, Any]:
    """Run the workers on a study that has so many trials already and return what it took."""
    server.fresh()
    tickets = max(options.trials, waiting)
    spec = spec_of(server.url, 1 + history + tickets, options.sampler)
    study = create_or_resume(spec, {})
    issue_tickets(study, 1)
    first = open_study(spec)
    worker_loop(first, spec, SPACE, Clock(0.0, []), "first", lambda: "")
    close_study(study)
    close_study(first)  # before processes are forked
    grow(server.url, history, "COMPLETE")
    grow(server.url, tickets, "WAITING")
    about = {"workers": options.workers, "history": history, "tickets": tickets, "sampler": options.sampler}
    with pooler(server, options.pooler) if options.pooler else nullcontext(server.url) as address:
        spec = spec_of(address, 1 + history + tickets, options.sampler)
        settings = {**vars(options), "spec": spec.to_dict(), "seconds": options.workers / options.rate}
        return about | {"pooler": options.pooler} | _run(settings, server.url, server.folder)


def _run(settings: Mapping[str, Any], url: str, folder: Path) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")  # at once, and nothing runs here that it could break
    found = context.Queue()
    places = range(settings["processes"])
    processes = [context.Process(target=be_workers, args=(settings, place, found)) for place in places]
    most, began = 0, time.monotonic()
    before = _server_seconds(folder)
    count = text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    for each in processes:
        each.start()
    engine = create_engine(url)
    counted: dict[int, float] = {}
    results: list[tuple[list[dict[str, float]], float]] = []
    while len(results) < len(processes):
        with engine.connect() as connection:
            most = max(most, int(connection.scalar(count) or 0) - 1)
        counted |= _server_seconds(folder)  # a backend that ends takes its account with it
        while not found.empty():
            results.append(found.get())
        time.sleep(0.2)
    took = time.monotonic() - began
    engine.dispose()
    rows = [row for each, _ in results for row in each]
    done = len(rows)
    server_cpu = sum(counted.values()) - sum(before.values())
    overhead = np.array([row["between"] + row["reports"] for row in rows])
    return {
        "trials": done,
        "trials_per_second": round(done / took, 2),
        "connections": most,
        **{f"ask_tell_p{q}": round(float(np.percentile([r["between"] for r in rows], q)), 3) for q in (50, 95)},
        **{f"report_p{q}": round(float(np.percentile([r["reports"] for r in rows], q)) / EPOCHS, 4) for q in (50, 95)},
        "overhead_of_60_s": f"{100 * float(np.median(overhead)) / 60:.2f}%",
        "worker_cpu_per_trial": round(sum(cpu for _, cpu in results) / done, 3),
        "server_cpu_per_trial": round(server_cpu / done, 3),
    }


def _server_seconds(folder: Path) -> dict[int, float]:
    """Return the CPU seconds of the server's processes."""
    root = psutil.Process(int((folder / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0]))
    found: dict[int, float] = {}
    for each in [root, *root.children(recursive=True)]:
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[each.pid] = times.user + times.system
    return found


def main() -> int:
    """Measure and print a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--trials", type=int, default=512)
    parser.add_argument("--history", type=int, nargs="+", default=[0], help="finished trials before")
    parser.add_argument("--waiting", type=int, nargs="+", default=[0], help="tickets, if more than trials")
    parser.add_argument("--rate", type=float, default=256 / 60)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--pooler", type=int, default=0, help="connections of PgBouncer in front, by transaction")
    options = parser.parse_args()
    reason = missing()
    if reason is not None:
        print(reason)
        return 1
    with postgres(2 * options.workers + 50) as server:
        for history, waiting in itertools.product(options.history, options.waiting):
            print(json.dumps(measure(server, options, history, waiting)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
