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
    known = {
        "data fingerprint": about.get("data_fingerprint"),
        "split fingerprint": about.get("split_fingerprint"),
        "git commit": about.get("git_commit"),
        "date": again.get("date"),
        "device": again.get("device"),
    }
    if not any(known.values()):
        return None
    words = (
        "The same data, code and seeds on the same device give the same numbers. Compare the fingerprints of data and "
        "splits first: if they differ, so may everything else."
    )
    body = [paragraph(words), *_commands(again, str(about.get("git_commit", "unknown"))), facts(known)]
    if again:
        body += [
            folded("Versions of packages", [table(["package", "version"], list(again["versions"].items()))]),
            folded(f"Settings ({CONFIG})", [f"<pre><code>{text(again['config'])}</code></pre>"]),
        ]
    return Part("Run it again", body)


def _commands(again: Mapping[str, Any], commit: str) -> list[str]:
    """Return the commands, and what they do not tell."""
    if not again:
        return []
    checkout = [] if commit == "unknown" else [f"git checkout {commit.removesuffix('+changes')}"]
    found = [f"<pre><code>{text(chr(10).join([*checkout, *again['commands']]))}</code></pre>"]
    if commit.endswith("+changes"):
        found.append(paragraph("The code had changes that were not committed: the commit is not all of it.", "note"))
    if any(" search " in each for each in again["commands"]):
        words = "A search with several workers may find another architecture; what is compared then differs with it."
        found.append(paragraph(words, "note"))
    return found


def _given(settings: Any) -> Any:
    """Return settings without those that say nothing."""
    if isinstance(settings, dict):
        return {name: _given(value) for name, value in settings.items() if value is not None}
    return settings
