"""Names, units and groups of laboratory values and vital signs, one code whatever table they come from."""

from __future__ import annotations

from typing import NamedTuple


class Channel(NamedTuple):
    """What is measured: code, unit, group (the parent code), and its names in YAIB and in the table lab."""

    code: str
    unit: str | None
    group: str
    yaib: str | None = None
    lab: tuple[str, ...] = ()


_GAS, _CHEMISTRY, _LIVER, _BLOOD = "LAB//blood gases", "LAB//chemistry", "LAB//liver", "LAB//blood count"
_CLOTTING, _HEART, _INFLAMMATION = "LAB//clotting", "LAB//heart", "LAB//inflammation"
_CIRCULATION, _BREATHING, _GENERAL = "VITAL//circulation", "VITAL//breathing", "VITAL//general"
GROUPS = {
    _GAS: "LAB",
    _CHEMISTRY: "LAB",
    _LIVER: "LAB",
    _BLOOD: "LAB",
    _CLOTTING: "LAB",
    _HEART: "LAB",
    _INFLAMMATION: "LAB",
    _CIRCULATION: "VITAL",
    _BREATHING: "VITAL",
    _GENERAL: "VITAL",
}
CHANNELS = (
    Channel("LAB//albumin", "g/dL", _LIVER, "alb", ("albumin",)),
    Channel("LAB//alkaline_phosphatase", "U/L", _LIVER, "alp", ("alkaline phos.",)),
    Channel("LAB//alt", "U/L", _LIVER, "alt", ("ALT (SGPT)",)),
    Channel("LAB//ast", "U/L", _LIVER, "ast", ("AST (SGOT)",)),
    Channel("LAB//base_excess", "mmol/L", _GAS, "be", ("Base Excess",)),
    Channel("LAB//bicarbonate", "mmol/L", _CHEMISTRY, "bicar", ("bicarbonate", "HCO3")),
    Channel("LAB//bilirubin", "mg/dL", _LIVER, "bili", ("total bilirubin",)),
    Channel("LAB//direct_bilirubin", "mg/dL", _LIVER, "bili_dir", ("direct bilirubin",)),
    Channel("LAB//bands", "%", _BLOOD, "bnd", ("-bands",)),
    Channel("LAB//urea_nitrogen", "mg/dL", _CHEMISTRY, "bun", ("BUN",)),
    Channel("LAB//calcium", "mg/dL", _CHEMISTRY, "ca", ("calcium",)),
    Channel("LAB//ionized_calcium", "mmol/L", _CHEMISTRY, "cai"),
    Channel("LAB//creatine_kinase", "U/L", _HEART, "ck", ("CPK",)),
    Channel("LAB//creatine_kinase_mb", "ng/mL", _HEART, "ckmb", ("CPK-MB",)),
    Channel("LAB//chloride", "mmol/L", _CHEMISTRY, "cl", ("chloride",)),
    Channel("LAB//creatinine", "mg/dL", _CHEMISTRY, "crea", ("creatinine",)),
    Channel("LAB//crp", "mg/L", _INFLAMMATION, "crp"),
    Channel("VITAL//diastolic_pressure", "mmHg", _CIRCULATION, "dbp"),
    Channel("LAB//fibrinogen", "mg/dL", _CLOTTING, "fgn", ("fibrinogen",)),
    Channel("VITAL//fio2", "%", _BREATHING, "fio2", ("FiO2",)),
    Channel("LAB//glucose", "mg/dL", _CHEMISTRY, "glu", ("glucose", "bedside glucose")),
    Channel("LAB//hemoglobin", "g/dL", _BLOOD, "hgb", ("Hgb",)),
    Channel("VITAL//heart_rate", "/min", _CIRCULATION, "hr"),
    Channel("LAB//inr", None, _CLOTTING, "inr_pt", ("PT - INR",)),
    Channel("LAB//potassium", "mmol/L", _CHEMISTRY, "k", ("potassium",)),
    Channel("LAB//lactate", "mmol/L", _GAS, "lact", ("lactate",)),
    Channel("LAB//lymphocytes", "%", _BLOOD, "lymph", ("-lymphs",)),
    Channel("VITAL//mean_pressure", "mmHg", _CIRCULATION, "map"),
    Channel("LAB//mch", "pg", _BLOOD, "mch", ("MCH",)),
    Channel("LAB//mchc", "g/dL", _BLOOD, "mchc", ("MCHC",)),
    Channel("LAB//mcv", "fL", _BLOOD, "mcv", ("MCV",)),
    Channel("LAB//methemoglobin", "%", _GAS, "methb", ("Methemoglobin",)),
    Channel("LAB//magnesium", "mg/dL", _CHEMISTRY, "mg", ("magnesium",)),
    Channel("LAB//sodium", "mmol/L", _CHEMISTRY, "na", ("sodium",)),
    Channel("LAB//neutrophils", "%", _BLOOD, "neut", ("-polys",)),
    Channel("VITAL//oxygen_saturation", "%", _BREATHING, "o2sat"),
    Channel("LAB//pco2", "mmHg", _GAS, "pco2", ("paCO2",)),
    Channel("LAB//ph", None, _GAS, "ph", ("pH",)),
    Channel("LAB//phosphate", "mg/dL", _CHEMISTRY, "phos", ("phosphate",)),
    Channel("LAB//platelets", "10^9/L", _BLOOD, "plt", ("platelets x 1000",)),
    Channel("LAB//po2", "mmHg", _GAS, "po2", ("paO2",)),
    Channel("LAB//ptt", "s", _CLOTTING, "ptt", ("PTT",)),
    Channel("VITAL//respiratory_rate", "/min", _BREATHING, "resp"),
    Channel("VITAL//systolic_pressure", "mmHg", _CIRCULATION, "sbp"),
    Channel("VITAL//temperature", "degC", _GENERAL, "temp"),
    Channel("LAB//troponin_t", "ng/mL", _HEART, "tnt", ("troponin - T",)),
    Channel("VITAL//urine", "mL", _GENERAL, "urine"),
    Channel("LAB//leukocytes", "10^9/L", _BLOOD, "wbc", ("WBC x 1000",)),
    Channel("VITAL//height", "cm", _GENERAL),
    Channel("VITAL//weight", "kg", _GENERAL),
)
YAIB = {each.yaib: each for each in CHANNELS if each.yaib}
LAB = {name: each for each in CHANNELS for name in each.lab}

# What is shown on the monitor every five minutes, and what is measured now and then.
PERIODIC = {
    "temperature": Channel("VITAL//temperature", "degC", _GENERAL),
    "sao2": Channel("VITAL//oxygen_saturation", "%", _BREATHING),
    "heartrate": Channel("VITAL//heart_rate", "/min", _CIRCULATION),
    "respiration": Channel("VITAL//respiratory_rate", "/min", _BREATHING),
    "cvp": Channel("VITAL//central_venous_pressure", "mmHg", _CIRCULATION),
    "etco2": Channel("VITAL//end_tidal_co2", "mmHg", _BREATHING),
    "systemicsystolic": Channel("VITAL//systolic_pressure", "mmHg", _CIRCULATION),
    "systemicdiastolic": Channel("VITAL//diastolic_pressure", "mmHg", _CIRCULATION),
    "systemicmean": Channel("VITAL//mean_pressure", "mmHg", _CIRCULATION),
    "pasystolic": Channel("VITAL//pulmonary_systolic_pressure", "mmHg", _CIRCULATION),
    "padiastolic": Channel("VITAL//pulmonary_diastolic_pressure", "mmHg", _CIRCULATION),
    "pamean": Channel("VITAL//pulmonary_mean_pressure", "mmHg", _CIRCULATION),
    "icp": Channel("VITAL//intracranial_pressure", "mmHg", _GENERAL),
}
APERIODIC = {
    "noninvasivesystolic": Channel("VITAL//noninvasive_systolic", "mmHg", _CIRCULATION),
    "noninvasivediastolic": Channel("VITAL//noninvasive_diastolic", "mmHg", _CIRCULATION),
    "noninvasivemean": Channel("VITAL//noninvasive_mean", "mmHg", _CIRCULATION),
    "paop": Channel("VITAL//wedge_pressure", "mmHg", _CIRCULATION),
    "cardiacoutput": Channel("VITAL//cardiac_output", "L/min", _CIRCULATION),
    "cardiacinput": Channel("VITAL//cardiac_index", "L/min/m2", _CIRCULATION),
    "svr": Channel("VITAL//systemic_resistance", "dyn.s/cm5", _CIRCULATION),
    "svri": Channel("VITAL//systemic_resistance_index", "dyn.s.m2/cm5", _CIRCULATION),
    "pvr": Channel("VITAL//pulmonary_resistance", "dyn.s/cm5", _CIRCULATION),
    "pvri": Channel("VITAL//pulmonary_resistance_index", "dyn.s.m2/cm5", _CIRCULATION),
}
CHARTED = {
    "Temperature (C)": Channel("VITAL//temperature", "degC", _GENERAL),
    "GCS Total": Channel("VITAL//gcs", None, _GENERAL),
    "Eyes": Channel("VITAL//gcs_eyes", None, _GENERAL),
    "Verbal": Channel("VITAL//gcs_verbal", None, _GENERAL),
    "Motor": Channel("VITAL//gcs_motor", None, _GENERAL),
    "Heart Rate": Channel("VITAL//heart_rate", "/min", _CIRCULATION),
    "Respiratory Rate": Channel("VITAL//respiratory_rate", "/min", _BREATHING),
    "O2 Saturation": Channel("VITAL//oxygen_saturation", "%", _BREATHING),
    "Non-Invasive BP Systolic": Channel("VITAL//noninvasive_systolic", "mmHg", _CIRCULATION),
    "Non-Invasive BP Diastolic": Channel("VITAL//noninvasive_diastolic", "mmHg", _CIRCULATION),
    "Non-Invasive BP Mean": Channel("VITAL//noninvasive_mean", "mmHg", _CIRCULATION),
}
APACHE_UNITS = {
    "urine": "mL",
    "wbc": "10^9/L",
    "temperature": "degC",
    "respiratoryrate": "/min",
    "sodium": "mmol/L",
    "heartrate": "/min",
    "meanbp": "mmHg",
    "ph": None,
    "hematocrit": "%",
    "creatinine": "mg/dL",
    "albumin": "g/dL",
    "pao2": "mmHg",
    "pco2": "mmHg",
    "bun": "mg/dL",
    "glucose": "mg/dL",
    "bilirubin": "mg/dL",
    "fio2": "%",
    "intubated": None,
    "vent": None,
    "dialysis": None,
    "eyes": None,
    "motor": None,
    "verbal": None,
    "meds": None,
}


def parents() -> dict[str, str]:
    """Return the group of every channel, and what stands above the groups."""
    every = [*CHANNELS, *PERIODIC.values(), *APERIODIC.values(), *CHARTED.values()]
    return {each.code: each.group for each in every} | GROUPS
