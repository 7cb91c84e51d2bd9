"""Codes as they look in records: ICD-10-CM and ATC in their hierarchies, laboratory values and vital signs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

from encoders.molecules.drugs import MOLECULES

ICD, ATC = "ICD10CM//", "ATC//"

_CHAPTERS = {
    "A00-B99": "Certain infectious and parasitic diseases",
    "C00-D49": "Neoplasms",
    "D50-D89": "Diseases of the blood",
    "E00-E89": "Endocrine, nutritional and metabolic diseases",
    "F01-F99": "Mental and behavioural disorders",
    "G00-G99": "Diseases of the nervous system",
    "I00-I99": "Diseases of the circulatory system",
    "J00-J99": "Diseases of the respiratory system",
    "K00-K95": "Diseases of the digestive system",
    "L00-L99": "Diseases of the skin",
    "M00-M99": "Diseases of the musculoskeletal system",
    "N00-N99": "Diseases of the genitourinary system",
    "R00-R99": "Symptoms, signs and abnormal findings",
    "S00-T88": "Injury and poisoning",
    "Z00-Z99": "Factors influencing health status",
}

# category | block | description | endings of its leaves
_CATEGORIES = """
A41|A30-A49|Sepsis|0 1 2 3 4 50 51 52 53 59 81 89 9
B37|B35-B49|Candidiasis|0 1 2 3 41 49 81 9
C34|C30-C39|Malignant neoplasm of bronchus and lung|00 01 02 10 11 12 2 30 31 32 80 90 91
C18|C15-C26|Malignant neoplasm of colon|0 1 2 3 4 5 6 7 8 9
D50|D50-D53|Iron deficiency anaemia|0 1 8 9
D64|D60-D64|Other anaemias|0 1 2 3 4 81 89 9
E11|E08-E13|Type 2 diabetes mellitus|00 10 11 21 22 29 311 319 36 40 42 43 51 65 8 9
E78|E70-E88|Disorders of lipoprotein metabolism|00 01 1 2 3 41 5 6 79 81 9
E87|E70-E88|Disorders of fluid and electrolytes|0 1 2 3 4 5 6 70 71 8
F32|F30-F39|Depressive episode|0 1 2 3 4 5 81 89 9
G20|G20-G26|Parkinson disease|A1 A2 B1 B2 C
G47|G40-G47|Sleep disorders|00 01 09 10 20 31 33 411 419 61 9
I10|I10-I16|Essential hypertension|
I21|I20-I25|Acute myocardial infarction|01 02 09 11 19 21 29 3 4 9 A1
I25|I20-I25|Chronic ischaemic heart disease|10 110 111 118 119 2 3 41 5 6 700 810 82 9
I48|I30-I5A|Atrial fibrillation and flutter|0 11 19 20 21 3 4 91 92
I50|I30-I5A|Heart failure|1 20 21 22 23 30 31 32 33 40 41 42 43 810 812 814 82 83 84 89 9
J18|J09-J18|Pneumonia, unspecified organism|0 1 2 8 9
J44|J40-J4A|Chronic obstructive pulmonary disease|0 1 81 89 9
J96|J96-J99|Respiratory failure|00 01 02 10 11 12 20 21 22 90 91 92
K21|K20-K31|Gastro-oesophageal reflux disease|00 01 9
K57|K55-K64|Diverticular disease of intestine|00 01 10 11 12 20 21 30 31 32 33 90 92
L89|L80-L99|Pressure ulcer|000 010 151 152 153 154 200 301 302 600 811 890 90 92
M17|M15-M19|Osteoarthritis of knee|0 10 11 12 2 30 31 32 4 5 9
M54|M50-M54|Dorsalgia|2 30 31 40 41 42 50 51 59 6 81 89 9
N17|N17-N19|Acute kidney failure|0 1 2 8 9
N18|N17-N19|Chronic kidney disease|1 2 30 31 32 4 5 6 9
N39|N30-N39|Disorders of urinary system|0 3 41 42 43 44 45 46 490 498 8 9
R07|R00-R09|Pain in throat and chest|0 1 2 81 82 89 9
R41|R40-R46|Symptoms involving cognitive functions|0 1 2 3 4 81 82 840 89 9
Z79|Z77-Z99|Long term drug therapy|01 02 1 2 4 51 52 82 83 84 890 899
"""

_DRUGS = """
A|Alimentary tract and metabolism||A02|Drugs for acid disorders|A02B|Drugs for peptic ulcer|A02BC|Proton pump inhibitors|A02BC01 omeprazole,A02BC02 pantoprazole
A|||A10|Drugs used in diabetes|A10B|Blood glucose lowering drugs|A10BA|Biguanides|A10BA02 metformin
A|||A10|Drugs used in diabetes|A10A|Insulins|A10AB|Insulins, fast-acting|A10AB01 insulin human,A10AB05 insulin aspart
B|Blood and blood forming organs||B01|Antithrombotics|B01A|Antithrombotics|B01AC|Platelet inhibitors|B01AC06 acetylsalicylic acid,B01AC04 clopidogrel
B|||B01|Antithrombotics|B01A|Antithrombotics|B01AF|Direct factor Xa inhibitors|B01AF01 rivaroxaban,B01AF02 apixaban
C|Cardiovascular system||C03|Diuretics|C03C|High-ceiling diuretics|C03CA|Sulfonamides|C03CA01 furosemide,C03CA04 torasemide
C|||C07|Beta blockers|C07A|Beta blockers|C07AB|Selective beta blockers|C07AB02 metoprolol,C07AB07 bisoprolol
C|||C09|Renin-angiotensin agents|C09A|ACE inhibitors|C09AA|ACE inhibitors|C09AA02 enalapril,C09AA03 lisinopril,C09AA05 ramipril
C|||C10|Lipid modifying agents|C10A|Lipid modifying agents|C10AA|Statins|C10AA01 simvastatin,C10AA05 atorvastatin
J|Antiinfectives||J01|Antibacterials|J01C|Penicillins|J01CR|Combinations of penicillins|J01CR02 amoxicillin and inhibitor,J01CR05 piperacillin and inhibitor
J|||J01|Antibacterials|J01D|Other beta-lactams|J01DD|Third-generation cephalosporins|J01DD04 ceftriaxone
M|Musculo-skeletal system||M01|Antiinflammatory products|M01A|Antiinflammatory products|M01AE|Propionic acid derivatives|M01AE01 ibuprofen,M01AE02 naproxen
N|Nervous system||N02|Analgesics|N02B|Other analgesics|N02BE|Anilides|N02BE01 paracetamol
N|||N06|Psychoanaleptics|N06A|Antidepressants|N06AB|SSRIs|N06AB04 citalopram,N06AB06 sertraline
R|Respiratory system||R03|Drugs for obstructive airway diseases|R03A|Adrenergics, inhalants|R03AC|Selective beta-2 agonists|R03AC02 salbutamol
"""

SMILES = MOLECULES

TREATS = {
    "C03CA01": "I50", "C03CA04": "I50", "C07AB07": "I50", "C09AA03": "I10", "C09AA05": "I10", "A10BA02": "E11",
    "A10AB05": "E11", "C10AA05": "E78", "C10AA01": "E78", "B01AC06": "I25", "B01AF02": "I48", "J01CR05": "A41",
    "J01DD04": "J18", "R03AC02": "J44", "N06AB06": "F32", "A02BC02": "K21", "N02BE01": "M54", "M01AE01": "M17",
}  # fmt: skip
CAUSES_EDGES = {
    "I10": "I50",
    "I25": "I50",
    "I21": "I50",
    "E11": "N18",
    "J18": "A41",
    "N39": "A41",
    "J44": "J96",
    "N18": "D64",
}

MEASUREMENTS = {
    "LAB//creatinine": ("Creatinine in serum", "mg/dL"),
    "LAB//sodium": ("Sodium in serum", "mmol/L"),
    "LAB//potassium": ("Potassium in serum", "mmol/L"),
    "LAB//haemoglobin": ("Haemoglobin in blood", "g/dL"),
    "LAB//crp": ("C-reactive protein in serum", "mg/L"),
    "VITAL//heart_rate": ("Heart rate", "/min"),
    "VITAL//systolic_blood_pressure": ("Systolic blood pressure", "mmHg"),
    "VITAL//respiratory_rate": ("Respiratory rate", "/min"),
    "VITAL//temperature": ("Body temperature", "Cel"),
    "VITAL//oxygen_saturation": ("Oxygen saturation", "%"),
}
OTHER = {
    "MEDS_BIRTH": "Birth", "MEDS_DEATH": "Death", "GENDER//F": "Female", "GENDER//M": "Male", "ETHNICITY//A": "Group A",
    "ETHNICITY//B": "Group B", "ETHNICITY//C": "Group C", "HOSPITAL_ADMISSION": "Admission", "HOSPITAL_DISCHARGE": "Discharge",
    "NOTE//admission": "Admission note", "NOTE//progress": "Progress note", "NOTE//radiology": "Radiology report",
    "NOTE//discharge": "Discharge summary", "IMAGE//chest_xray": "Chest radiograph", f"{ICD}Z51.5": "Palliative care",
}  # fmt: skip
DISEASE, DECOY = "I50", "E78"
"""The categories whose leaves show the disease cause (1 and 0); no other code comes from them."""
FAMILIES = ("S82", "S52")
"""The categories whose rare leaves show the family cause (0 and 1)."""
_FAMILY_NAMES = {"S52": ("S50-S59", "Fracture of forearm"), "S82": ("S80-S89", "Fracture of lower leg")}
_ENCOUNTERS = "ABCDEFGHJKMNPQRS"


@dataclass(frozen=True)
class Code:
    """A code with its description and its parent, if it has one."""

    code: str
    description: str
    parent: str | None


@cache
def leaves(category: str) -> tuple[str, ...]:
    """Return the leaf codes of a category."""
    if category in _FAMILY_NAMES:
        ends = product(range(7), range(10), (1, 2, 9), _ENCOUNTERS)
        return tuple(f"{ICD}{category}.{a}{b}{side}{seen}" for a, b, side, seen in ends)
    row = next(row for row in _rows() if row[0] == category)
    return tuple(f"{ICD}{category}.{end}" for end in row[3].split()) or (f"{ICD}{category}",)


@cache
def background() -> tuple[str, ...]:
    """Return diagnosis leaves and drugs that say nothing about the label."""
    found = [leaf for row in _rows() if row[0] not in (DISEASE, DECOY) for leaf in leaves(row[0])]
    return tuple(found + [drug for drug in _drug_codes() if not drug.startswith(f"{ATC}C03")])


@cache
def family(value: int, count: int) -> tuple[str, ...]:
    """Return `count` leaves of the family that shows a value of the family cause, spread over its branches."""
    every = leaves(FAMILIES[value])
    return every if count >= len(every) else tuple(every[i * len(every) // count] for i in range(count))


@cache
def codes(rare: int) -> tuple[Code, ...]:
    """Return every code with its parent: chapters, blocks, categories, leaves, drug classes, measurements, others.

    Of the two families of rare codes, `rare` leaves each.
    """
    found: Tree = {f"{ICD}{chapter}": (name, None) for chapter, name in _CHAPTERS.items()}
    for category, block, name, _ in _rows():
        _add_category(found, category, block, name, leaves(category))
    for value, category in enumerate(FAMILIES):
        _add_category(found, category, *_FAMILY_NAMES[category], family(value, rare))
    found.update(_drug_tree())
    found.update({code: (f"{name} ({unit})", code.split("//")[0]) for code, (name, unit) in MEASUREMENTS.items()})
    found.update({"LAB": ("Laboratory value", None), "VITAL": ("Vital sign", None), "AGE": ("Age in years", None)})
    found.update({code: (name, None) for code, name in OTHER.items() if code not in found})
    return tuple(Code(code, name, parent) for code, (name, parent) in sorted(found.items()))


Tree = dict[str, tuple[str, str | None]]


def _rows() -> list[list[str]]:
    return [line.split("|") for line in _CATEGORIES.strip().splitlines()]


def _add_category(found: Tree, category: str, block: str, name: str, ends: tuple[str, ...]) -> None:
    chapter = next(each for each in _CHAPTERS if each[:3] <= category <= each[-3:])
    found[f"{ICD}{block}"] = (f"Block {block}", f"{ICD}{chapter}")
    found[f"{ICD}{category}"] = (name, f"{ICD}{block}")
    for leaf in ends:
        _, dot, end = leaf.removeprefix(ICD).partition(".")
        parent = f"{ICD}{category}"
        for length in range(1, len(end) + 1 if dot else 0):
            code = f"{ICD}{category}.{end[:length]}"
            found.setdefault(code, (f"{name}, {end[:length]}", parent))
            parent = code


def _drug_tree() -> Tree:
    found: Tree = {}
    for line in _DRUGS.strip().splitlines():
        group, group_name, _, second, second_name, third, third_name, fourth, fourth_name, drugs = line.split("|")
        if group_name:
            found[ATC + group] = (group_name, None)
        found[ATC + second] = (second_name, ATC + group)
        found[ATC + third] = (third_name, ATC + second)
        found[ATC + fourth] = (fourth_name, ATC + third)
        for drug in drugs.split(","):
            code, _, name = drug.partition(" ")
            found[ATC + code] = (name, ATC + fourth)
    return found


def _drug_codes() -> list[str]:
    return [code for code in _drug_tree() if len(code) == len(ATC) + 7]


def edges() -> list[tuple[str, str, str]]:
    """Return the relations that are not `is_a`: drugs treat, diseases cause."""
    treats = [(ATC + drug, "treats", ICD + disease) for drug, disease in TREATS.items()]
    return treats + [(ICD + first, "causes", ICD + second) for first, second in CAUSES_EDGES.items()]
