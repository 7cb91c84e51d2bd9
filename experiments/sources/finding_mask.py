"""Hiding the names of findings, germs and the tests that prove them in clinical notes."""

from __future__ import annotations

import re

FINDING = "[finding]"

# The species that follows a name belongs to it: `Legionella pneumophila`.
_SPECIES = (
    r"(?:\s+(?:pneumoniae|pneumophila|jirovec(?:i|ii)|carinii|psittaci|zoster|aureus|influenzae|tuberculosis)"
    r")?"
)
_NAMES = (
    r"(?:novel\s+)?corona[\s-]?virus(?:es)?(?:\s+disease)?(?:[\s-]*(?:20)?19)?",
    r"co[rv]?vid(?:[\s-]*(?:20)?19)?",
    r"sars(?:[\s-]*cov(?:[\s-]*\d)?)?",
    r"(?:20)?19[\s-]*n[\s-]?cov",
    r"n[\s-]?cov(?:[\s-]*(?:20)?19)?",
    r"mers(?:[\s-]*cov)?",
    r"severe\s+acute\s+respiratory\s+syndrome",
    r"middle\s+east\s+respiratory\s+syndrome",
    r"pneumocystis" + _SPECIES,
    r"pcp|pjp",
    r"strept?ococc\w*" + _SPECIES,
    r"pneumococc\w*",
    r"staph\w*" + _SPECIES,
    r"klebsiella" + _SPECIES,
    r"e\.?\s?coli|escherichia(?:\s+coli)?",
    r"legion(?:ella|naires?'?|ellosis)" + _SPECIES,
    r"mycoplasma\w*" + _SPECIES,
    r"chlamyd\w*" + _SPECIES,
    r"psittac\w*|ornithosis",
    r"varicella" + _SPECIES,
    r"chicken[\s-]?pox|herpes(?:\s+zoster)?",
    r"(?:para)?influenza\w*|h\d+n\d+",
    r"h(?:a?em|æm)ophilus" + _SPECIES,
    r"tubercul\w*|mycobacter\w*",
    r"aspergill\w*|nocardi\w*|cryptococc\w*|histoplasm\w*|candid(?:a|iasis)",
    r"pseudomona\w*|acinetobacter\w*|enterobacter\w*|proteus",
    r"cytomegalovirus|cmv|adenovirus|rhinovirus|rsv",
    r"lipoid",
    r"\w*bacteri(?:al|a|um|aemia|emia)",
    r"(?<!immunodeficiency\s)vir(?:al|us|uses)",
    r"fung(?:al|us|i)",
    r"(?:acute|adult)\s+respiratory\s+distress(?:\s+syndrome)?(?:\s+\(ards\))?|ards",
    r"wuhan|pandemic|epidemic",
)
_TESTS = (
    r"(?:q?r[rt][\s-]*)?(?:q[\s-]*)?pcr",
    r"(?:reverse\s+transcriptase?\s+)?polymerase\s+chain\s+reaction",
    r"(?:naso|oro)?pharyngeal\s+swabs?|swabs?",
    r"urin(?:e|ary)\s+antigen",
)


def _words(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(patterns)})(?![^\W_])", re.IGNORECASE)


_WORDS = _words((*_NAMES, *_TESTS))
_RESULT = re.compile(r"\b(?:tested\s+)?(?:positive|negative)(?:\s+(?:for|on|by))?\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[^.;:]+[.;:]*")
_REPEATED = re.compile(r"\[finding\](?:[\s,()/-]*\[finding\])+\)?")


def mask(text: str) -> str:
    """Replace by `[finding]` what names a finding, the tests that prove one, and what came out of them.

    A test is hidden like a finding, because which test was made tells what was sought; in a sentence that names
    either, `positive` and `negative` are hidden too. `pneumonia` stays, because all who are told apart have
    one. What only hints at a finding (a drug, HIV, travel) stays too.

    Examples:
        >>> mask("RT-PCR was positive for SARS-CoV-2; COVID-19 pneumonia. Blood culture negative.")
        '[finding] was [finding]; [finding] pneumonia. Blood culture negative.'
    """
    hidden = _SENTENCE.sub(_without_result, _WORDS.sub(FINDING, text))
    return _REPEATED.sub(_once, hidden)


def names_finding(text: str) -> bool:
    """Say whether a text names a finding or a test for one."""
    return bool(_WORDS.search(text))


def _without_result(found: re.Match[str]) -> str:
    """Hide what a test showed in a sentence that names a finding or a test."""
    sentence = found[0]
    return _RESULT.sub(FINDING, sentence) if FINDING in sentence else sentence


def _once(found: re.Match[str]) -> str:
    """Join repeated masks: `[finding] ([finding])` says no more than one."""
    text = found[0]
    return FINDING + (")" if text.endswith(")") and "(" not in text else "")
