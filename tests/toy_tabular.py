"""A ward's own tables by hand: laboratory values, drugs, notes, images, stays, who died and who is in which split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

LABS = """pid;taken;reported;test;result;unit
P1;05.01.2024 10:00;05.01.2024 11:30;Krea;1,2;mg/dl
P1;05.01.2024 10:00;05.01.2024 11:30;Krea;1,2;mg/dl
P1;05.01.2024 12:00;;Na;1.140,5;mmol/l
P2;06.01.2024 10:00;06.01.2024 11:30;Krea;<3;mg/dl
P2;06.01.2024 11:00;06.01.2024 11:30;Krea;;mg/dl
P2;32.01.2024 10:00;06.01.2024 11:30;Krea;2;mg/dl
;06.01.2024 10:00;06.01.2024 11:30;Krea;2;mg/dl
P2;06.01.2024 10:00;06.01.2024 11:30;;2;mg/dl
"""
STAYS = """pid,came,went,ward,icd
P1,2024-01-05,2024-01-08T09:00:00Z,A,I5023
P2,2024-01-06 08:00,2024-01-05 08:00,B,I50.2
P3,2024-01-07 08:00,2024-01-07 10:00+01:00,B,K00
"""
NOTES = "pid,at,kind,body\nP1,2024-01-06 10:00,Nurse's round, slept well \nP1,2024-01-06 12:00,Doctor,\n"
IMAGES = """pid,at,file,view
P1,2024-01-06 10:00,x/one.png,PA
P2,2024-01-06 10:00,gone.png,PA
P2,2024-01-06 10:00,../up.png,
"""
DIED = "pid,at,died\nP1,2024-01-07,no\nP2,2024-01-07 12:00,1\nP2,2024-01-07 12:00,1\nP4,2024-01-08 12:00,TRUE\nP5,,0\n"
SPLITS = "pid,part\nP1,train\nP2,test\nP3,val\nP4,train\n"
MAPPING = """
name: Ward
license: for this ward only
ids: text
zone: Europe/Berlin
events:
  - file: labs.csv
    separator: ";"
    decimal: ","
    patient: pid
    time: {column: taken, format: "%d.%m.%Y %H:%M"}
    available: {column: reported, format: "%d.%m.%Y %H:%M"}
    code: "LAB//{test}"
    value: result
    unit: "{unit}"
  - {file: stays.csv, patient: pid, time: came, code: "ADMISSION//{ward}", site: ward}
  - {file: stays.csv, patient: pid, time: went, not_before: came, code: "ICD10CM//{icd}"}
notes:
  - {file: notes.csv, patient: pid, time: at, text: body, kind: "{kind}"}
images:
  - {file: images.csv, patient: pid, time: at, path: file, view: view, folder: pictures}
labels:
  - {name: died, file: died.csv, patient: pid, time: at, value: died}
splits: {file: splits.csv, patient: pid, split: part, names: {test: held_out, val: tuning}}
"""


def write_ward(folder: Path, **changes: str) -> Path:
    """Write the tables and their description, whose path is returned."""
    texts = {"labs": LABS, "stays": STAYS, "notes": NOTES, "images": IMAGES, "died": DIED, "splits": SPLITS} | changes
    (folder / "pictures" / "x").mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        if name != "mapping":
            (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    for place in ("pictures/x/one.png", "up.png"):
        Image.fromarray(np.full((16, 16), 128, np.uint8)).save(folder / place)
    path = folder / "ward.yaml"
    path.write_text(changes.get("mapping", MAPPING), encoding="utf-8")
    return path


def events(folder: Path, prefix: str = "") -> list[tuple[Any, ...]]:
    """Return whose, when, what, how much and in which unit of the events of a converted folder."""
    table = pl.read_parquet(folder / "data" / "*.parquet").filter(pl.col("code").str.starts_with(prefix))
    return table.select("subject_id", "time", "code", "numeric_value", "unit").rows()
