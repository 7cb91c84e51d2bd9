"""Methods of search at the same budget, several times each: does a method beat random search, or is it luck?"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from scipy import stats

from experiments.config import StudyConfig, parse_config
from experiments.jobs import JobFailure, run_jobs
from experiments.metrics import METRICS, metric_name
from experiments.objective import score_job
from experiments.plots import anytime_png
from experiments.progress import progress_bar
from experiments.reporting.page import Part, image, page, paragraph
from experiments.reporting.table import table
from experiments.searching import run_search
from experiments.slots import default_workers
from experiments.studies import finalists, load_study
from experiments.whole import whole_file
from fusion import UsageError
from search.objectives import is_candidate, score_of
from search.pruning import root_of
from search.spending import cost_of

CONTROLS: Mapping[str, Mapping[str, Any]] = {"random": {"sampler": "random", "supernet": None}}
"""Methods that a search can be held against, as settings of `search`."""
_FRESH = 2_000_003  # keeps these seeds apart from those of trials, comparisons and registration
_LEVEL = 0.95


@dataclass(frozen=True)
class Anytime:
    """The best tuning score of one search so far, each time a trial ended.

    Shape:
        epochs, seconds, best: (N,), what all trials had taken until then, and the best that was complete.
    """

    epochs: NDArray[np.float64]
    seconds: NDArray[np.float64]
    best: NDArray[np.float64]


@dataclass(frozen=True)
class Leg:
    """One search of a race: its curve, and the mean tuning score of its best candidate with fresh seeds."""

    method: str
    repeat: int
    study: str
    curve: Anytime
    best: float
    retrained: float


@dataclass(frozen=True)
class Difference:
    """How much better a method did than the control, repeat by repeat, with fresh seeds; more is better."""

    method: str
    gaps: tuple[float, ...]
    mean: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval of the mean is above zero."""
        return self.low > 0


@dataclass(frozen=True)
class Race:
    """Searches by several methods, the same number of times each."""

    name: str
    metric: str
    control: str
    legs: tuple[Leg, ...]

    @property
    def methods(self) -> list[str]:
        """The methods in order, the control last."""
        return list(dict.fromkeys(leg.method for leg in self.legs))

    def of(self, method: str) -> list[Leg]:
        """Return a method's searches by repeat."""
        return [leg for leg in self.legs if leg.method == method]

    def differences(self) -> list[Difference]:
        """Compare each method with the control: the mean over repeats and its t-interval at 95%."""
        sign = 1.0 if METRICS[self.metric].higher_is_better else -1.0
        base = np.array([leg.retrained for leg in self.of(self.control)])
        found = []
        for method in self.methods:
            if method == self.control:
                continue
            gaps = sign * (np.array([leg.retrained for leg in self.of(method)]) - base)
            spread = float(gaps.std(ddof=1)) / np.sqrt(len(gaps)) if len(gaps) > 1 else float("inf")
            half = float(stats.t.ppf((1 + _LEVEL) / 2, max(1, len(gaps) - 1))) * spread
            mean = float(gaps.mean())
            found.append(Difference(method, tuple(gaps.tolist()), mean, mean - half, mean + half))
        return found

    def verdict(self) -> str:
        """Say plainly which methods beat the control and which did not."""
        lines = []
        for each in self.differences():
            gaps = ", ".join(f"{gap:+.3f}" for gap in each.gaps)
            said = f"beat {self.control} search" if each.shown else f"did not beat {self.control} search"
            interval = f"{each.low:+.3f} to {each.high:+.3f}"
            lines.append(f"{each.method} {said}: {each.mean:+.3f} ({interval}) in {metric_name(self.metric)}; {gaps}")
        return "\n".join(lines)

    def render(self) -> Any:
        """Return a rich table and the verdict."""
        from rich.console import Group
        from rich.table import Table

        heads = ("method", "repeat", "epochs", "seconds", f"best tuning {metric_name(self.metric)}", "with fresh seeds")
        found = Table(*heads, title=f"{self.name}: searches at the same budget")
        for row in self._rows():
            found.add_row(*row)
        return Group(found, self.verdict())

    def write(self, folder: Path) -> Path:
        """Write the page with its picture, the table and the data; return where the page is."""
        folder.mkdir(parents=True, exist_ok=True)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["method", "repeat", "epochs", "seconds", "best", "with_fresh_seeds"])
        writer.writerows(self._rows())
        picture = anytime_png([(leg.method, leg.curve) for leg in self.legs], self.metric)
        parts = [
            image(picture, "best score so far by epochs trained"),
            table(["method", "repeat", "epochs", "seconds", "best trial", "its mean with fresh seeds"], self._rows()),
            *(paragraph(f"{line}.") for line in self.verdict().splitlines()),
            paragraph(
                "The best of many trials flatters, so differences are of candidates trained again with fresh seeds, on "
                "the tuning split; nobody looked at the held-out split."
            ),
        ]
        found = page(f"Search: {self.name}", f"held against {self.control} search", [Part("The race", parts)])
        data = {"differences": [asdict(each) for each in self.differences()], "metric": self.metric}
        files = {
            "race.html": found.encode(),
            "race.png": picture,
            "race.csv": text.getvalue().encode(),
            "race.json": json.dumps(data, indent=1).encode(),
        }
        for name, content in files.items():
            with whole_file(folder / name) as temporary:
                temporary.write_bytes(content)
        return folder / "race.html"

    def _rows(self) -> list[list[str]]:
        return [
            [
                leg.method,
                str(leg.repeat),
                f"{leg.curve.epochs[-1]:.0f}",
                f"{leg.curve.seconds[-1]:.0f}",
                f"{leg.best:.4f}",
                f"{leg.retrained:.4f}",
            ]
            for leg in self.legs
        ]


def run_race(
    config: StudyConfig,
    methods: Mapping[str, Mapping[str, Any]],
    control: str,
    *,
    repeats: int = 3,
    seeds: int = 3,
    workers: int | None = None,
    progress: bool = True,
) -> Race:
    """Run a study by several methods with the same budget and seeds, and compare what they found with fresh seeds.

    Each search is a study of its own, `NAME.METHOD-REPEAT`, so an interrupted race goes on where it was.

    Args:
        methods: settings of `search` that differ from the study's, by name; the control is among them.

    Raises:
        UsageError: no such control, a search that found nothing, or settings that are wrong.
    """
    if control not in methods:
        raise UsageError(f"the control must be among the methods {', '.join(methods)}; got '{control}'")
    order = [*(name for name in methods if name != control), control]
    studies = race_studies(config, methods, repeats)
    with progress_bar("searches", len(studies), enabled=progress) as advance:
        for each in studies.values():
            run_search(each, workers, live=False)
            advance()
    scores = _retrained(studies, seeds, workers or default_workers(config.training.devices), progress)
    legs = []
    for plan in sorted(studies, key=lambda each: order.index(each[0])):
        study = load_study(studies[plan])
        metric = str(study.user_attrs["metric"])
        curve = anytime(study.get_trials(deepcopy=False), METRICS[metric].higher_is_better, study.user_attrs)
        legs.append(Leg(*plan, study.study_name, curve, float(curve.best[-1]), scores[plan]))
    return Race(config.name, metric, control, tuple(legs))


def race_studies(
    config: StudyConfig, methods: Mapping[str, Mapping[str, Any]], repeats: int
) -> dict[tuple[str, int], StudyConfig]:
    """Return the searches of a race by method and repeat: studies that anything may run, here or elsewhere."""
    plans = [(method, repeat) for repeat in range(repeats) for method in methods]
    return {plan: _study(config, methods[plan[0]], *plan) for plan in plans}


def anytime(trials: Sequence[FrozenTrial], maximise: bool, attributes: Mapping[str, Any]) -> Anytime:
    """Return the best score so far by what was trained; a network of all architectures counts from the start."""
    before = attributes.get("supernet") or {}
    epochs, seconds, best = float(before.get("epochs", 0)), float(before.get("seconds", 0.0)), float("nan")
    rows, counted = [(epochs, seconds, best)], dict[int, int]()
    better: Callable[[float, float], float] = max if maximise else min
    for trial in sorted(
        (each for each in trials if each.datetime_complete), key=lambda each: str(each.datetime_complete)
    ):
        history, root = trial.user_attrs.get("history", ()), root_of(trial)
        new = history[counted.get(root, 0) :]  # a further attempt reports again what earlier ones did
        counted[root] = max(counted.get(root, 0), len(history))
        epochs += cost_of(new)
        seconds += sum(float(entry.get("seconds", 0.0)) for entry in new)
        score = score_of(trial)
        if is_candidate(trial) and score is not None:
            best = score if np.isnan(best) else better(best, score)
        rows.append((epochs, seconds, best))
    return Anytime(*np.array(rows, np.float64).T)


def _study(config: StudyConfig, changes: Mapping[str, Any], method: str, repeat: int) -> StudyConfig:
    plain = config.model_dump(mode="json")
    plain |= {"name": f"{config.name}.{method}-{repeat}", "seed": config.seed + repeat}
    plain["search"] |= changes
    found = parse_config(plain)
    assert isinstance(found, StudyConfig)
    return found


def _retrained(
    studies: Mapping[tuple[str, int], StudyConfig], seeds: int, workers: int, progress: bool
) -> dict[tuple[str, int], float]:
    plans, jobs = [], []
    for plan, config in studies.items():
        best = finalists(load_study(config), 1)
        if not best:
            raise UsageError(
                f"the search '{config.name}' finished no trial; see: ehrfusion search {config.name} --status"
            )
        job = {"config": config.model_dump(mode="json"), "candidate": best[0][1].to_dict()}
        jobs += [{**job, "seed": _FRESH + seed} for seed in range(seeds)]
        plans += [plan] * seeds
    found = run_jobs(score_job, jobs, workers, "retraining", progress)
    scores: dict[tuple[str, int], list[float]] = {}
    for plan, value in zip(plans, found, strict=True):
        if not isinstance(value, JobFailure):
            scores.setdefault(plan, []).append(value)
    return {plan: float(np.mean(scores[plan])) if plan in scores else float("nan") for plan in studies}
