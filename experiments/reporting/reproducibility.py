"""How to run a comparison again: commands, settings, data, code, software and machine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from experiments.config import Config, StudyConfig
from experiments.doctor import devices_check
from experiments.reporting.page import Part, folded, paragraph, text
from experiments.reporting.table import facts, table
from experiments.studies import public_settings
from experiments.versions import package_versions

if TYPE_CHECKING:
    from experiments.comparison import Comparison

CONFIG = "config.yaml"


def reproduction(config: Config, by: str, seeds: int, *, audit: bool = True) -> dict[str, Any]:
    """Return what somebody needs who runs a comparison again; passwords in addresses are left out."""
    place = config.runs / config.name / ("compare" if by == "fusion" else f"compare-{by}") / CONFIG
    options = f" --by {by} --seeds {seeds}" + ("" if audit else " --no-audit")
    search = [f"ehrfusion search {place}"] if isinstance(config, StudyConfig) else []
    return {
        "commands": [*search, f"ehrfusion compare {place}{options}"],
        "config": yaml.safe_dump(_given(public_settings(config)), sort_keys=False),
        "versions": package_versions(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": devices_check().detail,
    }


def reproducibility_part(comparison: Comparison) -> Part | None:
    """Return the box with what it takes to run the comparison again."""
    about = comparison.about
    again: Mapping[str, Any] = about.get("again") or {}
    if not again:
        return None
    commit = str(about.get("git_commit", "unknown"))
    checkout = [] if commit == "unknown" else [f"git checkout {commit.removesuffix('+changes')}"]
    edited = commit.endswith("+changes")
    searched = any(" search " in each for each in again["commands"])
    notes = [
        *(["The code had changes that were not committed: the commit alone is not all of it."] if edited else []),
        *(
            ["A search with several workers may find another architecture; what is compared then differs with it."]
            if searched
            else []
        ),
    ]
    body = [
        paragraph(
            "The same data, code and seeds on the same device give the same numbers. Compare the fingerprints of data "
            "and splits first: if they differ, so may everything else."
        ),
        f"<pre><code>{text(chr(10).join([*checkout, *again['commands']]))}</code></pre>",
        *(paragraph(note, "note") for note in notes),
        facts(
            {
                "data fingerprint": about.get("data_fingerprint"),
                "split fingerprint": about.get("split_fingerprint"),
                "git commit": commit,
                "date": again["date"],
                "device": again["device"],
            }
        ),
        folded("Versions of packages", [table(["package", "version"], list(again["versions"].items()))]),
        folded(f"Settings ({CONFIG})", [f"<pre><code>{text(again['config'])}</code></pre>"]),
    ]
    return Part("Run it again", body)


def _given(settings: Any) -> Any:
    """Return settings without those that say nothing."""
    if isinstance(settings, dict):
        return {name: _given(value) for name, value in settings.items() if value is not None}
    return settings
