"""ICD-9-CM and ICD-10-CM code strings: which of the two a code is, and what stands above it."""

from __future__ import annotations

import re
from functools import cache

ICD9, ICD10 = "ICD9CM//", "ICD10CM//"
ICD9_PROCEDURE, ICD10_PROCEDURE = "ICD9PROC//", "ICD10PCS//"
_ICD9 = re.compile(r"(\d{3}|V\d{2}|E\d{3})(\.\d{1,2})?")
_ICD10 = re.compile(r"[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?")
_PROCEDURE = re.compile(r"\d{2}(\.\d{1,2})?")
_ICD10_PROCEDURE = re.compile(r"[0-9A-HJ-NP-Z]{7}")
_SYSTEM = re.compile(r"(DIAGNOSIS|DIAGNOSES|DX|PROCEDURES?|PX)?ICD(9|10)(CM|PCS|PROC|DX|SG)?")

ICD10_CHAPTERS = {
    "A00-B99": "Certain infectious and parasitic diseases",
    "C00-D49": "Neoplasms",
    "D50-D89": "Diseases of the blood and certain immune disorders",
    "E00-E89": "Endocrine, nutritional and metabolic diseases",
    "F01-F99": "Mental, behavioral and neurodevelopmental disorders",
    "G00-G99": "Diseases of the nervous system",
    "H00-H59": "Diseases of the eye and adnexa",
    "H60-H95": "Diseases of the ear and mastoid process",
    "I00-I99": "Diseases of the circulatory system",
    "J00-J99": "Diseases of the respiratory system",
    "K00-K95": "Diseases of the digestive system",
    "L00-L99": "Diseases of the skin and subcutaneous tissue",
    "M00-M99": "Diseases of the musculoskeletal system and connective tissue",
    "N00-N99": "Diseases of the genitourinary system",
    "O00-O9A": "Pregnancy, childbirth and the puerperium",
    "P00-P96": "Certain conditions originating in the perinatal period",
    "Q00-Q99": "Congenital malformations and chromosomal abnormalities",
    "R00-R99": "Symptoms, signs and abnormal clinical and laboratory findings",
    "S00-T88": "Injury, poisoning and other consequences of external causes",
    "U00-U85": "Codes for special purposes",
    "V00-Y99": "External causes of morbidity",
    "Z00-Z99": "Factors influencing health status and contact with health services",
}
ICD9_CHAPTERS = {
    "001-139": "Infectious and parasitic diseases",
    "140-239": "Neoplasms",
    "240-279": "Endocrine, nutritional and metabolic diseases, and immunity disorders",
    "280-289": "Diseases of the blood and blood-forming organs",
    "290-319": "Mental disorders",
    "320-389": "Diseases of the nervous system and sense organs",
    "390-459": "Diseases of the circulatory system",
    "460-519": "Diseases of the respiratory system",
    "520-579": "Diseases of the digestive system",
    "580-629": "Diseases of the genitourinary system",
    "630-679": "Complications of pregnancy, childbirth and the puerperium",
    "680-709": "Diseases of the skin and subcutaneous tissue",
    "710-739": "Diseases of the musculoskeletal system and connective tissue",
    "740-759": "Congenital anomalies",
    "760-779": "Certain conditions originating in the perinatal period",
    "780-799": "Symptoms, signs and ill-defined conditions",
    "800-999": "Injury and poisoning",
    "V01-V91": "Supplementary classification of factors influencing health status",
    "E000-E999": "Supplementary classification of external causes of injury and poisoning",
}
_ICD10_TEXT = (
    "A00-A09 A15-A19 A20-A28 A30-A49 A50-A64 A65-A69 A70-A74 A75-A79 A80-A89 A90-A99 B00-B09 B10-B10 B15-B19 "
    "B20-B20 B25-B34 B35-B49 B50-B64 B65-B83 B85-B89 B90-B94 B95-B97 B99-B99 C00-C14 C15-C26 C30-C39 C40-C41 "
    "C43-C44 C45-C49 C50-C50 C51-C58 C60-C63 C64-C68 C69-C72 C73-C75 C76-C80 C7A-C7A C7B-C7B C81-C96 D00-D09 "
    "D10-D36 D37-D48 D3A-D3A D49-D49 D50-D53 D55-D59 D60-D64 D65-D69 D70-D77 D78-D78 D80-D89 E00-E07 E08-E13 "
    "E15-E16 E20-E35 E36-E36 E40-E46 E50-E64 E65-E68 E70-E88 E89-E89 F01-F09 F10-F19 F20-F29 F30-F39 F40-F48 "
    "F50-F59 F60-F69 F70-F79 F80-F89 F90-F98 F99-F99 G00-G09 G10-G14 G20-G26 G30-G32 G35-G37 G40-G47 G50-G59 "
    "G60-G65 G70-G73 G80-G83 G89-G99 H00-H05 H10-H11 H15-H22 H25-H28 H30-H36 H40-H42 H43-H44 H46-H47 H49-H52 "
    "H53-H54 H55-H57 H59-H59 H60-H62 H65-H75 H80-H83 H90-H94 H95-H95 I00-I02 I05-I09 I10-I16 I20-I25 I26-I28 "
    "I30-I5A I60-I69 I70-I79 I80-I89 I95-I99 J00-J06 J09-J18 J20-J22 J30-J39 J40-J47 J60-J70 J80-J84 J85-J86 "
    "J90-J94 J95-J95 J96-J99 K00-K14 K20-K31 K35-K38 K40-K46 K50-K52 K55-K64 K65-K68 K70-K77 K80-K87 K90-K95 "
    "L00-L08 L10-L14 L20-L30 L40-L45 L49-L54 L55-L59 L60-L75 L76-L76 L80-L99 M00-M02 M04-M04 M05-M14 M15-M19 "
    "M20-M25 M26-M27 M30-M36 M40-M43 M45-M49 M50-M54 M60-M63 M65-M67 M70-M79 M80-M85 M86-M90 M91-M94 M95-M95 "
    "M96-M96 M97-M97 M99-M99 N00-N08 N10-N16 N17-N19 N20-N23 N25-N29 N30-N39 N40-N53 N60-N65 N70-N77 N80-N98 "
    "N99-N99 O00-O08 O09-O09 O10-O16 O20-O29 O30-O48 O60-O77 O80-O82 O85-O92 O94-O9A P00-P04 P05-P08 P09-P09 "
    "P10-P15 P19-P29 P35-P39 P50-P61 P70-P74 P76-P78 P80-P83 P84-P84 P90-P96 Q00-Q07 Q10-Q18 Q20-Q28 Q30-Q34 "
    "Q35-Q37 Q38-Q45 Q50-Q56 Q60-Q64 Q65-Q79 Q80-Q89 Q90-Q99 R00-R09 R10-R19 R20-R23 R25-R29 R30-R39 R40-R46 "
    "R47-R49 R50-R69 R70-R79 R80-R82 R83-R89 R90-R94 R97-R97 R99-R99 S00-S09 S10-S19 S20-S29 S30-S39 S40-S49 "
    "S50-S59 S60-S69 S70-S79 S80-S89 S90-S99 T07-T07 T14-T14 T15-T19 T20-T25 T26-T28 T30-T32 T33-T34 T36-T50 "
    "T51-T65 T66-T78 T79-T79 T80-T88 U00-U49 V00-V09 V10-V19 V20-V29 V30-V39 V40-V49 V50-V59 V60-V69 V70-V79 "
    "V80-V89 V90-V94 V95-V97 V98-V99 W00-W19 W20-W49 W50-W64 W65-W74 W85-W99 X00-X08 X10-X19 X30-X39 X50-X50 "
    "X52-X58 X71-X83 X92-Y09 Y21-Y33 Y35-Y38 Y62-Y69 Y70-Y82 Y83-Y84 Y90-Y99 Z00-Z13 Z14-Z15 Z16-Z16 Z17-Z17 "
    "Z18-Z18 Z19-Z19 Z20-Z29 Z30-Z39 Z40-Z53 Z55-Z65 Z66-Z66 Z67-Z67 Z68-Z68 Z69-Z76 Z77-Z99"
)
_ICD9_TEXT = (
    "001-009 010-018 020-027 030-041 042-042 045-049 050-059 060-066 070-079 080-088 090-099 100-104 110-118 "
    "120-129 130-136 137-139 140-149 150-159 160-165 170-176 179-189 190-199 200-209 210-229 230-234 235-238 "
    "239-239 240-246 249-259 260-269 270-279 290-294 295-299 300-316 317-319 320-327 330-337 338-338 339-339 "
    "340-349 350-359 360-379 380-389 390-392 393-398 401-405 410-414 415-417 420-429 430-438 440-449 451-459 "
    "460-466 470-478 480-488 490-496 500-508 510-519 520-529 530-539 540-543 550-553 555-558 560-569 570-579 "
    "580-589 590-599 600-608 610-612 614-616 617-629 630-639 640-649 650-659 660-669 670-677 678-679 680-686 "
    "690-698 700-709 710-719 720-724 725-729 730-739 760-763 764-779 780-789 790-796 797-799 800-804 805-809 "
    "810-819 820-829 830-839 840-848 850-854 860-869 870-879 880-887 890-897 900-904 905-909 910-919 920-924 "
    "925-929 930-939 940-949 950-957 958-959 960-979 980-989 990-995 996-999"
)

_ICD9_SECTIONS, _ICD10_BLOCKS = _ICD9_TEXT.split(), _ICD10_TEXT.split()


def icd_code(text: str) -> str | None:
    """Return a code with its vocabulary (`ICD10CM//I50.23`), or None where the text is no ICD code.

    ICD-9 comes first where both could be meant: `V45.81` and `E980.2` are ICD-9, `E87.2` is ICD-10. Two
    digits (`31.1`) are an ICD-9 procedure.

    Examples:
        >>> [icd_code(text) for text in ("428.0", "I50.23", "E87.2", "E980.2", "31.1", "none")]
        ['ICD9CM//428.0', 'ICD10CM//I50.23', 'ICD10CM//E87.2', 'ICD9CM//E980.2', 'ICD9PROC//31.1', None]
    """
    code = text.strip().upper()
    if _ICD9.fullmatch(code):
        return ICD9 + code
    if _ICD10.fullmatch(code):
        return ICD10 + code
    return ICD9_PROCEDURE + code if _PROCEDURE.fullmatch(code) else None


def icd_spelled(code: str, version: int, *, procedure: bool = False) -> str | None:
    """Return a code that was written without its point, with its vocabulary; None where it is no code of the version.

    Examples:
        >>> [icd_spelled("I5023", 10), icd_spelled("4280", 9), icd_spelled("E9802", 9), icd_spelled("x", 9)]
        ['ICD10CM//I50.23', 'ICD9CM//428.0', 'ICD9CM//E980.2', None]
        >>> icd_spelled("3605", 9, procedure=True), icd_spelled("02703ZZ", 10, procedure=True)
        ('ICD9PROC//36.05', 'ICD10PCS//02703ZZ')
    """
    text = code.strip().upper().replace(".", "")
    if procedure and version == 10:
        return ICD10_PROCEDURE + text if _ICD10_PROCEDURE.fullmatch(text) else None
    whole = 2 if procedure else 4 if version == 9 and text.startswith("E") else 3
    dotted = f"{text[:whole]}.{text[whole:]}" if len(text) > whole else text
    pattern, vocabulary = (_ICD9, ICD9) if version == 9 else (_ICD10, ICD10)
    if procedure:
        pattern, vocabulary = _PROCEDURE, ICD9_PROCEDURE
    return vocabulary + dotted if version in (9, 10) and pattern.fullmatch(dotted) else None


def icd_recognised(code: str) -> str | None:
    """Return an ICD code as we spell it, however a data folder names its vocabulary; None where it names none.

    Examples:
        >>> [icd_recognised(code) for code in ("DIAGNOSIS//ICD//10//I5023", "ICD9CM/428.0", "ICD-10-CM:i50.23")]
        ['ICD10CM//I50.23', 'ICD9CM//428.0', 'ICD10CM//I50.23']
        >>> icd_recognised("PROCEDURE//ICD//10//02703ZZ"), icd_recognised("LAB//4280")
        ('ICD10PCS//02703ZZ', None)
    """
    *system, bare = re.split(r"/+|[:|]", code)
    found = _SYSTEM.fullmatch(re.sub(r"[\s_-]", "", "".join(system)).upper())
    if found is None:
        return None
    procedure = (found[1] or "").startswith("P") or found[3] in ("PCS", "PROC", "SG")
    return icd_spelled(bare, int(found[2]), procedure=procedure)


@cache
def icd_parent(code: str) -> str | None:
    """Return the code above: a digit shorter, then the category, the block and the chapter.

    Examples:
        >>> icd_parent("ICD10CM//I50.23"), icd_parent("ICD10CM//I50"), icd_parent("ICD10CM//I30-I5A")
        ('ICD10CM//I50.2', 'ICD10CM//I30-I5A', 'ICD10CM//I00-I99')
    """
    vocabulary, _, bare = code.partition("//")
    vocabulary += "//"
    if "." in bare:
        return vocabulary + bare[:-1].rstrip(".")
    if vocabulary == ICD10_PROCEDURE:  # section, body system, operation
        return vocabulary + bare[: min(3, len(bare) - 1)] if len(bare) > 1 else None
    if vocabulary not in (ICD9, ICD10):
        return None
    chapters = ICD9_CHAPTERS if vocabulary == ICD9 else ICD10_CHAPTERS
    if bare in chapters:
        return None
    blocks = _ICD9_SECTIONS if vocabulary == ICD9 else _ICD10_BLOCKS
    first = bare.split("-")[0]
    found = (None if "-" in bare else _holding(first, blocks)) or _holding(first, list(chapters))
    return None if found is None else vocabulary + found


def icd_description(code: str) -> str | None:
    """Return the name of a chapter; blocks and codes have none here."""
    vocabulary, _, bare = code.partition("//")
    return {"ICD9CM": ICD9_CHAPTERS, "ICD10CM": ICD10_CHAPTERS}.get(vocabulary, {}).get(bare)


def _holding(category: str, ranges: list[str]) -> str | None:
    """Find the range a category lies in; letters and digits sort as ICD sorts them (`C7A` after `C79`)."""
    for each in ranges:
        low, high = each.split("-")
        if len(low) == len(category) and low <= category <= high:
            return each
    return None
