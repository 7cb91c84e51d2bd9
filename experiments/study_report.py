"""The page of a study: how it went, what it found, what mattered, what failed and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from encoders import ENCODERS
from experiments.drawing import architecture_svg
from experiments.front import front_files, front_parts
from experiments.live import best_trial, describe
from experiments.metrics import metric_name
from experiments.plots import importance_png
from experiments.reading import leaderboard, progress_picture
from experiments.reporting.cohort import cohort_body
from experiments.reporting.page import Part, image, page, paragraph, wide
from experiments.reporting.table import facts, table
from experiments.whole import whole_file
from fusion import FUSIONS
from search.analysis import component_scores, fusion_by_encoder, never_together, never_tried
from search.duplicates import is_duplicate
from search.effects import component_effects
from search.importance import importance, variance_shares
from search.objectives import maximises
from search.pruning import BUDGET, PAUSED, last_attempts
from search.space import Space
from search.spending import savings
from search.study import summary

_PAIRS_SHOWN = 24
_FLATTERED = (
    "Scores are of the tuning split, on which they were chosen: they flatter. What a model is worth is told by "
    "'ehrfusion compare' and 'ehrfusion register' on held-out patients."
)


def study_report(study: optuna.Study, out: Path) -> Path:
    """Write the page of a study, and its front beside it where there is one; return where the page is."""
    attributes, trials = study.user_attrs, study.get_trials(deepcopy=False)
    maximise = maximises(study)
    metric = str(attributes.get("metric", "score"))
    counts = ", ".join(f"{count} {name}" for name, count in summary(trials).items() if count)
    parts = [
        Part("Best trials", [paragraph(_FLATTERED), _best(study, metric), *_drawing(trials, maximise)]),
        *front_parts(study),
        Part("What mattered", [*_mattered(study), *_effects(trials, metric)]),
        Part("Components", [*_components(trials, metric, maximise), *_untried(attributes, trials)]),
        *_supernet(attributes),
        Part("Trials that failed or were pruned early", [_failures(trials)]),
        *_cohort(attributes),
        Part("Where it comes from", [facts(_origin(attributes, trials))]),
    ]
    opening = _progress(study)
    text = page(f"Study: {study.study_name}", counts or "no trials yet", parts, opening=opening)
    for name, content in {out.name: text.encode(), **front_files(study)}.items():
        with whole_file(out.with_name(name)) as temporary:
            temporary.write_bytes(content)
    return out


def _progress(study: optuna.Study) -> list[str]:
    drawn = progress_picture(study)
    return [image(drawn, "score of each trial and the best so far")] if drawn else []


def _best(study: optuna.Study, metric: str) -> str:
    rows = [
        [
            each["trial"],
            f"{each['score']:.4f}",
            each["architecture"],
            ", ".join(f"{name} {_short(value)}" for name, value in each["training"].items()),
            f"{each['parameters']:,}",
            f"{each['seconds']:.0f}",
        ]
        for each in leaderboard(study)
    ]
    return table(["trial", f"tuning {metric_name(metric)}", "architecture", "training", "parameters", "seconds"], rows)


def _mattered(study: optuna.Study) -> list[str]:
    found = importance(study)
    if not found:
        return ["<p>Too few finished trials to say.</p>"]
    whole = variance_shares(study)
    rows = [[name, f"{share:.0%}", f"{whole[name]:.0%}" if name in whole else ""] for name, share in found.items()]
    return [
        image(importance_png(found), "importance of each choice"),
        "<p>What it took to be among the best (PED-ANOVA, drawn above), and the share of the variation over the whole "
        "space (fANOVA; only for choices that every trial made):</p>",
        table(["choice", "to be among the best", "over the whole space"], rows[:20], fold=True),
    ]


def _effects(trials: Sequence[FrozenTrial], metric: str) -> list[str]:
    """Show what each component moves the score by, with intervals."""
    found = component_effects(trials)
    if not found:
        return []
    rows = [
        [each.component, each.place, str(each.trials), f"{each.value:+.4f} ({each.low:+.4f} to {each.high:+.4f})"]
        for each in found
    ]
    text = "By how much a component moves the score, with the other places held alike; intervals are over trials:"
    return [
        f"<p>{text}</p>",
        table(["component", "place", "trials", f"effect on {metric_name(metric)}"], rows, fold=True),
    ]


def _components(trials: Sequence[FrozenTrial], metric: str, maximise: bool) -> list[str]:
    rows = [
        [name, place, str(count), f"{mean:.4f}", f"{best:.4f}"]
        for place, name, count, mean, best in component_scores(trials, maximise)
    ]
    name = metric_name(metric)
    heads = ["component", "place", "finished trials", f"mean {name}", f"best {name}"]
    return [table(heads, rows, fold=True), *_pairs(trials, metric, maximise)]


def _cohort(attributes: Mapping[str, Any]) -> list[Part]:
    body = cohort_body(attributes.get("cohort", {}), attributes.get("flow", []))
    return [Part("Who is predicted", body)] if body else []


def _origin(attributes: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    """Return where the study's numbers come from."""
    return {
        "data": attributes.get("data_fingerprint"),
        "splits": attributes.get("split_fingerprint"),
        "code": attributes.get("git_commit"),
        "budget": _budget(attributes.get("config", {}).get("search", {})),
        "seed": str(attributes.get("config", {}).get("seed", "")),
        "training": str(savings(trials)),
        "candidates that were there before": str(sum(map(is_duplicate, trials))),
    }


def _drawing(trials: Sequence[FrozenTrial], maximise: bool) -> list[str]:
    best = best_trial(trials, maximise)
    if best is None:
        return []
    drawn = architecture_svg(best.user_attrs["architecture"])
    return [paragraph(f"The best, trial {best.number}:"), wide(drawn, f"architecture of trial {best.number}")]


def _pairs(trials: Sequence[FrozenTrial], metric: str, maximise: bool) -> list[str]:
    """Show the best score of each fusion with each encoder."""
    found = fusion_by_encoder(trials, maximise)
    fusions = sorted({name for row in found.values() for name in row})
    if len(fusions) < 2:
        return []
    rows = [
        [encoder, modality, *(f"{row[name]:.4f}" if name in row else "" for name in fusions)]
        for (modality, encoder), row in found.items()
    ]
    return [
        f"<p>Best {metric_name(metric)} of each fusion with each encoder:</p>",
        table(["encoder", "of", *fusions], rows),
    ]


def _supernet(attributes: Mapping[str, Any]) -> list[Part]:
    """Show what the network of all architectures took, how far it decided, and what it found."""
    found = attributes.get("supernet")
    if not found:
        return []
    entropy = ", ".join(f"{each:.3f}" for each in found["entropy"])
    about = {
        "epochs and seconds": f"{found['epochs']}, {found['seconds']:.0f} s",
        "parameters": f"{found['parameters']:,}",
        "choices removed": str(len(found["removals"])),
        f"tuning {metric_name(found['metric'])} of what it found": ", ".join(f"{each:.4f}" for each in found["scores"]),
        "entropy before training and after each epoch": entropy,
    }
    drawn = [wide(architecture_svg(each), "architecture that was found") for each in found["architectures"]]
    words = "Where the entropy stays near 1, architecture parameters hardly moved, and removing choices decided."
    return [
        Part(
            "The network of all architectures",
            [facts(about), *([paragraph(words)] if found["removals"] else []), *drawn],
        )
    ]


def _budget(search: Mapping[str, Any]) -> str:
    if not search:
        return ""
    amounts = [f"{search[unit]} {unit}" for unit in ("trials", "epochs", "seconds") if search.get(unit)]
    amount = amounts[0] if amounts else f"{search['flops']:.2e} FLOPs"
    pruning = f", {search['pruner']} from epoch {search['first_rung']} by {search['reduction']}"
    return f"{amount}, sampler {search['sampler']}{pruning if search['pruner'] != 'none' else ''}"


def _untried(attributes: Mapping[str, Any], trials: Sequence[FrozenTrial]) -> list[str]:
    config = attributes.get("config")
    if not config:
        return []
    from experiments.studies import SEARCHED

    space = Space.from_dict(config["space"], ENCODERS, FUSIONS, SEARCHED)
    left, (apart, pairs) = never_tried(space, trials), never_together(space, trials)
    found = [f"<p>Never tried: {', '.join(left)}.</p>"] if left else []
    if apart:
        some = ", ".join(f"{fusion} with {encoder}" for fusion, encoder in apart[:_PAIRS_SHOWN])
        more = f", and {len(apart) - _PAIRS_SHOWN} more" if len(apart) > _PAIRS_SHOWN else ""
        found.append(f"<p>Never tried together, {len(apart)} of {pairs} pairs: {some}{more}.</p>")
    return found


def _failures(trials: Sequence[FrozenTrial]) -> str:
    last = {each.number for each in last_attempts(trials).values()}
    rows = [
        [
            str(trial.number),
            describe(trial),
            str(trial.user_attrs.get("failure") or trial.user_attrs.get("pruned_by") or "no reason recorded"),
            str(len(trial.user_attrs.get("history", ()))),
        ]
        for trial in trials
        if trial.state in (TrialState.FAIL, TrialState.PRUNED)
        and not is_duplicate(trial)
        and (trial.user_attrs.get("pruned_by") not in (PAUSED, BUDGET) or trial.number in last)  # it went on later
    ]
    return table(["trial", "what", "why", "epochs"], rows, fold=True)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
