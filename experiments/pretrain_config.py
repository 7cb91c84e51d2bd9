"""Settings of pre-training: which encoders learn what, without labels, from the patients of the train split."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from experiments.optimizer_config import Count, OptimizerConfig, Share

Objective = Literal["masked", "contrastive", "umm_plm", "next_event"]


class PretrainConfig(OptimizerConfig):
    """What `ehrfusion pretrain` does; the encoders lie in `runs/NAME/<folder>/<modality>` afterwards.

    `masked` hides a share of codes (with values), times and words, `contrastive` tells the modalities of one patient
    from those of others (`pairs` of them, or all but codes with the graph that is made of them), and `umm_plm` predicts
    diagnoses and drugs, told by the prefixes of their codes, from codes and notes that have read each other;
    `next_event` asks the codes encoder `timeline` for each token, given those before it of the same patient. Several
    objectives add up. A share `validation` of the patients of the train split says which epoch is best. In modules
    numbered below `frozen_layers` of a modality, and embeddings, nothing is learned.
    """

    encoders: Annotated[dict[str, str | dict[str, Any]], Field(min_length=1)]
    dim: Annotated[int, Field(ge=4)] = 64
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("masked",)
    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "pretrained"
    epochs: Count = 30
    patience: Count = 5
    validation: Share = 0.1
    mask_share: Share = 0.15
    pairs: tuple[str, ...] | None = None
    diagnoses: tuple[str, ...] = ("ICD10CM//", "ICD9CM//", "DIAGNOSIS//")
    drugs: tuple[str, ...] = ("ATC//", "DRUG//", "MEDICATION//")
    frozen_layers: dict[str, Count] = {}

    @model_validator(mode="after")
    def _once(self) -> PretrainConfig:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives lists one twice: {', '.join(self.objectives)}")
        for modality in self.frozen_layers:
            if modality not in self.encoders:
                raise ValueError(f"frozen_layers names '{modality}', which has no encoder to pre-train")
        return self

    @model_validator(mode="after")
    def _fits(self) -> PretrainConfig:
        known, objectives = list(self.encoders), self.objectives
        if "masked" in objectives and not {"codes", "notes"} & set(known):
            raise ValueError(f"objective 'masked' hides codes and words; encoders has only {', '.join(known)}")
        if "contrastive" in objectives and not self.paired():
            raise ValueError(
                f"objective 'contrastive' needs two modalities that differ; encoders has {', '.join(known)}"
            )
        if "next_event" in objectives and self._name("codes") != "timeline":
            raise ValueError("objective 'next_event' reads forwards; it needs the encoder codes: timeline")
        for one in self.pairs or ():
            parts = one.split("-")
            if len(parts) != 2 or parts[0] == parts[1] or not set(parts) <= set(known):
                raise ValueError(f"pairs are two of the encoders, as {'-'.join((known * 2)[:2])}; got '{one}'")
        if "umm_plm" in objectives and ("notes" not in known or len({"codes", "graph"} & set(known)) != 1):
            raise ValueError("objective 'umm_plm' needs notes and one of codes and graph among the encoders")
        return self

    def _name(self, modality: str) -> Any:
        spec = self.encoders.get(modality)
        return spec.get("name") if isinstance(spec, dict) else spec

    def paired(self) -> list[tuple[str, str]]:
        """Return which modalities are aligned."""
        if self.pairs is not None:
            return [(each.split("-")[0], each.split("-")[-1]) for each in self.pairs]
        names = list(self.encoders)
        pairs = [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
        return [pair for pair in pairs if set(pair) != {"codes", "graph"}]
