"""ICD codes as MEDS and OMOP data spell them, in the one spelling that the ontologies here have."""

from __future__ import annotations

import re
from functools import lru_cache

import polars as pl

from experiments.sources.icd import icd_spelled

_NESTED = re.compile(r"(DIAGNOSIS|PROCEDURE)//ICD//(9|10)(?:CM|PCS)?//(.+)", re.IGNORECASE)
_VOCABULARY = re.compile(r"ICD(9|10)-?(CM|PROC|PCS)//?([^/]+)", re.IGNORECASE)


@lru_cache(maxsize=100_000)
def respelled(code: str) -> str:
    """Return an ICD code as `ICD10CM//I50.23`; every other code as it is.

    Examples:
        >>> [respelled(code) for code in ("DIAGNOSIS//ICD//10//I5023", "ICD10CM/I50.23", "ICD9Proc/36.05")]
        ['ICD10CM//I50.23', 'ICD10CM//I50.23', 'ICD9PROC//36.05']
        >>> respelled("PROCEDURE//ICD//10//02703ZZ"), respelled("LOINC/2160-0"), respelled("ICD10CM//x")
        ('ICD10PCS//02703ZZ', 'LOINC/2160-0', 'ICD10CM//x')
    """
    if found := _NESTED.fullmatch(code):
        return icd_spelled(found[3], int(found[2]), procedure=found[1].upper() == "PROCEDURE") or code
    if found := _VOCABULARY.fullmatch(code):
        return icd_spelled(found[3], int(found[1]), procedure=found[2].upper() != "CM") or code
    return code


def respell(events: pl.DataFrame) -> pl.DataFrame:
    """Spell the ICD codes in the column `code` as `respelled` does."""
    codes = events["code"].unique().drop_nulls().to_list()
    changed = {code: new for code in codes if (new := respelled(code)) != code}
    return events.with_columns(pl.col("code").replace(changed)) if changed else events
