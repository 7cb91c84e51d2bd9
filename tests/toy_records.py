"""Records made by hand, and a spy on what a module is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from encoders.records import CodeEvents, Image, Measure, Note, Record

NAN = float("nan")


def noted(*notes: tuple[str, float], kind: str = "nursing") -> Record:
    return Record(notes=tuple(Note(text, days, kind) for text, days in notes))


def spied(module: nn.Module) -> tuple[list[Any], Any]:
    """What a module is given from now on, and a handle that ends it."""
    heard: list[Any] = []
    handle = module.register_forward_pre_hook(lambda _, args, kwargs: heard.append(kwargs or args), with_kwargs=True)
    return heard, handle


def coded(*events: tuple[str, float, float]) -> Record:
    codes, days, values = zip(*events, strict=True) if events else ((), (), ())
    return Record(CodeEvents(codes, np.array(days, np.float32), np.array(values, np.float32)))


DESCRIPTIONS = {
    "AGE": "Age in years",
    "GENDER//F": "Female",
    "ICD10CM//E11.9": "Type 2 diabetes mellitus, 9",
    "ICD10CM//I50.1": "Heart failure, 1",
    "ATC//A10BA02": "metformin",
    "LAB//creatinine": "Creatinine in serum (mg/dL)",
    "VITAL//heart_rate": "Heart rate (/min)",
}
PATIENT = coded(
    ("AGE", 0, 71.6),
    ("GENDER//F", 0, NAN),
    ("ICD10CM//E11.9", 2000, NAN),
    ("ICD10CM//E11.9", 2000, NAN),
    ("ICD10CM//E11.9", 40, NAN),
    ("ATC//A10BA02", 39, NAN),
    ("HOSPITAL_ADMISSION//Emergency_Department", 3, NAN),
    ("ICD10CM//I50.1", 3, NAN),
    ("LAB//creatinine", 3, 1.0),
    ("LAB//creatinine", 2, 1.4),
    ("LAB//creatinine", 1, 1.9),
    ("LAB//creatinine", 0.25, 2.45),
    ("LAB//platelets", 1, 212_000),
    ("VITAL//heart_rate", 0.5, 88),
    ("VITAL//heart_rate", 0.01, 91),
)
MEASURES = {
    "LAB//creatinine": Measure("mg/dL", 0.7, 1.3),
    "LAB//platelets": Measure("/uL", 150_000, 350_000),
    "LAB//crp": Measure("mg/L", None, 8),
    "VITAL//heart_rate": Measure("/min", 60, 100),
    "VITAL//urine": Measure("mL"),
}
_MORE = coded(("CPT//99291", 2, NAN), ("LAB//crp", 1, 3.0), ("VITAL//urine", 0.5, 80)).codes
EVERYTHING = Record(
    CodeEvents(
        *(np.concatenate([np.asarray(one), np.asarray(other)]) for one, other in zip(PATIENT.codes, _MORE, strict=True))
    ),
    (Note("Chest pain.\n## Drugs\n\nNone taken.", 2.0, "nursing"), Note("No change", 0.5, "radiology_report")),
    (Image(Path("SMITH_JOHN.png"), 1.0, "frontal"), Image(Path("b.png"), 0.1, "")),
)
