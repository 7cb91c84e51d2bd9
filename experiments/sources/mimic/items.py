"""Which numbers of the chart and the laboratory are which: itemid and unit."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from experiments.data.units import measurements
from experiments.sources.channels import APERIODIC, CHANNELS, CHARTED, PERIODIC

UNITS = dict(measurements().select("code", "canonical").iter_rows()) | {
    each.code: each.unit for each in (*APERIODIC.values(), *PERIODIC.values(), *CHARTED.values(), *CHANNELS)
}


class Scale(NamedTuple):
    """How a number becomes one in the channel's unit: value x factor + offset."""

    factor: float
    offset: float


SAME = Scale(1.0, 0.0)
FAHRENHEIT = Scale(5 / 9, -160 / 9)
POUND, OUNCE, INCH = Scale(0.45359237, 0.0), Scale(0.45359237 / 16, 0.0), Scale(2.54, 0.0)
PERCENT = Scale(100.0, 0.0)

# CareVue's numbers (below 10,000) and MetaVision's (220,000 and up); what is calculated from another row of the
# chart (677, 679: temperature in the other unit) is not taken twice.
CHART: dict[str, dict[Scale, tuple[int, ...]]] = {
    "VITAL//heart_rate": {SAME: (211, 220045)},
    "VITAL//respiratory_rate": {SAME: (618, 615, 220210, 224690)},
    "VITAL//oxygen_saturation": {SAME: (646, 220277)},
    "VITAL//systolic_pressure": {SAME: (51, 6701, 220050, 225309)},
    "VITAL//diastolic_pressure": {SAME: (8368, 8555, 220051, 225310)},
    "VITAL//mean_pressure": {SAME: (52, 6702, 220052, 225312)},
    "VITAL//noninvasive_systolic": {SAME: (442, 455, 220179)},
    "VITAL//noninvasive_diastolic": {SAME: (8440, 8441, 220180)},
    "VITAL//noninvasive_mean": {SAME: (443, 456, 220181)},
    "VITAL//temperature": {SAME: (676, 223762), FAHRENHEIT: (678, 223761)},
    "VITAL//central_venous_pressure": {SAME: (113, 220074)},
    "VITAL//intracranial_pressure": {SAME: (226, 220765)},
    "VITAL//pulmonary_systolic_pressure": {SAME: (492, 220059)},
    "VITAL//pulmonary_diastolic_pressure": {SAME: (8448, 220060)},
    "VITAL//fio2": {SAME: (3420, 223835), PERCENT: (190,)},
    "VITAL//peep": {SAME: (506, 220339)},
    "VITAL//gcs": {SAME: (198,)},
    "VITAL//gcs_eyes": {SAME: (184, 220739)},
    "VITAL//gcs_verbal": {SAME: (723, 223900)},
    "VITAL//gcs_motor": {SAME: (454, 223901)},
    "VITAL//weight": {SAME: (762, 763, 3580, 224639, 226512), POUND: (3581, 226531), OUNCE: (3582,)},
    "VITAL//height": {SAME: (3485, 226730), INCH: (920, 1394, 226707)},
    "LAB//glucose": {SAME: (807, 811, 1529, 225664, 226537)},
}
# Foley, void, condom, nephrostomies, straight catheter and the like, as the MIMIC code repository counts urine.
URINE = (
    *(40055, 43175, 40069, 40094, 40715, 40473, 40085, 40057, 40056, 40405, 40428, 40086, 40096, 40651),
    *(226559, 226560, 226561, 226584, 226563, 226564, 226565, 226567, 226557, 226558),
)
# The same in the hospital's laboratory, by the channel's name in YAIB.
LABORATORY = {
    **{"alb": (50862,), "alp": (50863,), "alt": (50861,), "ast": (50878,), "be": (50802,), "bicar": (50882,)},
    **{"bili": (50885,), "bili_dir": (50883,), "bnd": (51144,), "bun": (51006,), "ca": (50893,), "cai": (50808,)},
    **{"ck": (50910,), "ckmb": (50911,), "cl": (50902, 50806), "crea": (50912,), "crp": (50889,), "fgn": (51214,)},
    **{"fio2": (50816,), "glu": (50931, 50809), "hgb": (51222, 50811), "inr_pt": (51237,), "k": (50971, 50822)},
    **{"lact": (50813,), "lymph": (51244,), "mch": (51248,), "mchc": (51249,), "mcv": (51250,), "methb": (50814,)},
    **{"mg": (50960,), "na": (50983, 50824), "neut": (51256,), "pco2": (50818,), "ph": (50820,), "phos": (50970,)},
    **{"plt": (51265,), "po2": (50821,), "ptt": (51275,), "tnt": (51003,), "wbc": (51300, 51301)},
}


def chart_items() -> pl.DataFrame:
    """Return the itemids of the chart that are kept. Shape: columns itemid, code, unit, factor, offset."""
    rows = [
        (itemid, code, UNITS.get(code), scale.factor, scale.offset)
        for code, scales in CHART.items()
        for scale, itemids in scales.items()
        for itemid in itemids
    ]
    kinds = {"itemid": pl.Int64, "code": pl.String, "unit": pl.String, "factor": pl.Float64, "offset": pl.Float64}
    return pl.DataFrame(rows, schema=kinds, orient="row")


def laboratory_codes() -> dict[int, str]:
    """Return the codes of itemids that other databases have, too."""
    codes = {each.yaib: each.code for each in CHANNELS}
    return {itemid: codes[name] for name, itemids in LABORATORY.items() for itemid in itemids}
