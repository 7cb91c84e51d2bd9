"""Inputs, records and probes that tests of encoders share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from encoders.codes import CodeInputs
from encoders.notes import NoteInputs
from encoders.records import CodeEvents, Knowledge, Note, Record

NAN = float("nan")
NOTHING = Knowledge()


def coded(*events: tuple[str, float, float]) -> Record:
    codes, days, values = zip(*events, strict=True)
    return Record(CodeEvents(codes, np.array(days, np.float32), np.array(values, np.float32)))


def noted(*notes: tuple[str, float]) -> Record:
    return Record(notes=tuple(Note(text, days, "nursing") for text, days in notes))


def inputs_of(kind: type, mask: Tensor, **parts: Any) -> Any:
    """Inputs of a modality with zeros where nothing is given."""
    found = {}
    for name in kind._fields:  # type: ignore[attr-defined]
        default = torch.zeros(mask.shape, dtype=torch.long if name in ("codes", "ids", "nodes") else torch.float32)
        found[name] = (
            mask
            if name == "mask" or (name == "has_value" and name not in parts)
            else torch.as_tensor(parts.get(name, default))
        )
    return kind(**found)


def code_inputs(values: list[list[float]], mask: list[list[bool]], **parts: Any) -> CodeInputs:
    return inputs_of(CodeInputs, torch.tensor(mask), values=torch.tensor(values), **parts)


def heard_by(module: nn.Module, run: Callable[[], Any]) -> Tensor:
    """What a part of a network is given while something runs."""
    heard: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: heard.append(given[0].detach()))
    run()
    handle.remove()
    assert len(heard) == 1
    return heard[0]


def note_inputs(ids: Sequence[Sequence[int]]) -> NoteInputs:
    numbers = torch.tensor(ids)
    return inputs_of(NoteInputs, numbers > 0, ids=numbers)
