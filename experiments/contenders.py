"""What a comparison compares: fusions of the same encoders, modalities alone, training strategies, controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from encoders.codes import TEXTS
from experiments.config import Config, ExperimentConfig, TrainingConfig
from experiments.controls import CONTROLS
from experiments.feeding import check_architecture
from experiments.objective import trial_training
from fusion import FUSIONS, Architecture, Spec, UsageError
from fusion.component import find

if TYPE_CHECKING:
    from experiments.retraining import Finalists

Kind = Literal["fusion", "training", "modality", "control", "without"]
BY = ("fusion", "training")
"""What may be compared: fusions, or training strategies of one architecture."""

PLAIN = "plain"
TRAININGS: Mapping[str, Mapping[str, Any]] = {
    PLAIN: {},
    "modality_dropout": {"modality_dropout": 0.3},
    "unimodal_loss": {"unimodal_loss": 0.5},
    "ogm_ge": {"balance": "ogm_ge"},
    "info_reg": {"balance": "info_reg"},
    "gradient_blend": {"balance": "gradient_blend"},
    "alignment": {"alignment": 0.1},
    "class_weights": {"class_weights": True},
    "focal": {"focal_gamma": 2.0},
    "label_smoothing": {"label_smoothing": 0.1},
    "ema": {"average": "ema"},
    "swa": {"average": "swa"},
    "layer_decay": {"layer_decay": 0.7},
}
"""Training strategies one at a time, each on top of plain training."""
_OFF = {name: TrainingConfig.model_fields[name].default for each in TRAININGS.values() for name in each}


@dataclass(frozen=True)
class Contender:
    """One line of a comparison: an architecture with its own training settings, or the name of a control."""

    kind: Kind
    architecture: Architecture | None = None
    control: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    def plain(self, training: TrainingConfig) -> dict[str, Any]:
        """Return plain data for a worker process, the own training settings on top of the shared ones."""
        architecture = self.architecture.to_dict() if self.architecture is not None else None
        settings = {**training.model_dump(), **self.training}
        return {"architecture": architecture, "control": self.control, "training": settings}


@dataclass(frozen=True)
class Subject:
    """What is compared: encoders, fusion and settings; what a search preferred, and how; remarks for the reader."""

    architecture: Architecture
    training: TrainingConfig
    fusions: tuple[str, ...]
    preferred: Architecture | None = None
    remarks: tuple[str, ...] = ()
    how: str = ""


def chosen(config: Config, found: Finalists | None = None) -> Subject:
    """Return what is compared.

    That is an experiment's own architecture, or the best trial's of a study: the one that training anew chose, if that
    is given, or else the one with the best score. A modality that the best trial left out has the encoder of the best
    trial that used it, because a comparison of fusions is about all modalities. The fusions are those that
    `compare.fusions` names, or else those of the study's space, or all for an experiment.

    Raises:
        UsageError: the study has no finished trial, or there is no such fusion.
    """
    if isinstance(config, ExperimentConfig):
        architecture = config.model.architecture()
        check_architecture(architecture)
        return Subject(architecture, config.training, _fusions(config, list(FUSIONS)))
    from experiments.studies import finalists, load_study, study_space

    fusions = _fusions(config, list(study_space(config).fusion))
    ranked = finalists(load_study(config))
    if not ranked:
        raise UsageError(
            f"study '{config.name}' has no finished trial to compare; see: ehrfusion search {config.name} --status"
        )
    if found is not None:
        ranked.sort(key=lambda each: each[0].number != found.winner.trial)  # stable: the others stay in their order
    best = ranked[0][1]
    encoders, remarks = {}, []
    for modality in config.space.encoders:
        trial, candidate = next((each for each in ranked if modality in each[1].architecture.encoders), (None, None))
        if trial is None or candidate is None:
            remarks.append(f"no finished trial used {modality}: it is not compared")
            continue
        encoders[modality] = candidate.architecture.encoders[modality]
        if modality not in best.architecture.encoders:
            remarks.append(f"the best trial left {modality} out: compared with the encoder of trial {trial.number}")
    architecture = replace(best.architecture, encoders=encoders)
    training = trial_training(config.training, best)
    return Subject(architecture, training, fusions, best.architecture, tuple(remarks), str(found or ""))


def contenders(subject: Subject, *, by: str = "fusion", controls: bool = True) -> dict[str, Contender]:
    """Return every contender by name: fusions or training strategies, and what they are held against.

    Training strategies train the same architecture, one at a time, beside training without any. Fusions have the same
    encoders, beside each modality alone, all modalities but one, and controls. The fusion that was found keeps its
    hyperparameters; the others have their defaults. What the search preferred is a contender of its own where it fuses
    some of the modalities only. Controls read coded events, so they take part where the comparison has them; beside an
    encoder that reads the record as text also where training strategies are compared.
    """
    architecture, preferred = subject.architecture, subject.preferred
    held_against = {name: Contender("control", control=name) for name in CONTROLS} if controls else {}
    if by == "training":
        found = {name: Contender("training", architecture, training={**_OFF, **TRAININGS[name]}) for name in TRAININGS}
        return found | (held_against if reads_text(architecture) else {})
    found = {}
    if len(architecture.encoders) > 1:
        for name in dict.fromkeys([*subject.fusions, architecture.fusion.name]):
            spec = architecture.fusion if name == architecture.fusion.name else Spec(name)
            found[name] = Contender("fusion", replace(architecture, fusion=spec))
    if preferred is not None and 1 < len(preferred.encoders) < len(architecture.encoders):
        found[f"{preferred.fusion.name} of {' + '.join(preferred.encoders)}"] = Contender("fusion", preferred)
    for modality, encoder in architecture.encoders.items():
        alone = replace(architecture, encoders={modality: encoder}, fusion=Spec("early"))
        found[modality] = Contender("modality", alone)
    found |= _without_one(architecture, [each.architecture for each in found.values()])
    return found | (held_against if "codes" in architecture.encoders else {})


def without_control(subject: Subject, controls: bool) -> list[str]:
    """Return the remark that a comparison needs whose records are read as text and that left the control out."""
    if controls or not reads_text(subject.architecture):
        return []
    return [
        "codes are read as text and compare.controls is false: nobody knows whether numbers read as numbers do better"
    ]


def reads_text(architecture: Architecture) -> bool:
    """Tell whether coded events are read as text, where numbers read as numbers have often done better."""
    return "codes" in architecture.encoders and architecture.encoders["codes"].name in TEXTS


def _without_one(architecture: Architecture, others: list[Architecture | None]) -> dict[str, Contender]:
    """Return the architecture without each modality in turn; with two modalities those are the single ones."""
    if len(architecture.encoders) < 3:
        return {}
    found = {}
    for modality in architecture.encoders:
        rest = {name: encoder for name, encoder in architecture.encoders.items() if name != modality}
        fewer = replace(architecture, encoders=rest)
        if fewer not in others:  # the search may have preferred it already
            found[f"without {modality}"] = Contender("without", fewer)
    return found


def _fusions(config: Config, otherwise: list[str]) -> tuple[str, ...]:
    names = config.compare.fusions or otherwise
    for name in names:
        find(FUSIONS, Spec(name), "compare.fusions")
    return tuple(names)
