"""The terms under which a source stands, by the licence file beside its tables."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ODBL_TERMS = (
    "This derived database stays under the same licence; the notice is in LICENSE-DATA.txt. Contains\n"
    "information from the {name}, which is made available under the ODbL."
)
OTHER_TERMS = "The terms of the source bind this copy as well; do not pass it on where they forbid it."


class Terms(NamedTuple):
    """What the data are called, under which licence they stand, and the file that says so."""

    name: str
    version: str
    licence: str
    file: Path | None
    demo: bool

    @property
    def text(self) -> str:
        """What follows from the licence for the copy."""
        return ODBL_TERMS.format(name=self.name) if self.demo else OTHER_TERMS


def read_terms(src: Path, name: str, version: str, demo_version: str) -> Terms:
    """Read the terms from the licence file of the source: demos are under ODbL, the full data are not."""
    file = next((path for path in sorted(src.glob("LICENSE*")) if path.is_file()), None)
    text = "" if file is None else file.read_text(encoding="utf-8", errors="replace")
    if "Open Database License" in text:
        return Terms(f"{name} Demo", demo_version, "ODbL-1.0", file, True)
    kind = "PhysioNet Credentialed Health Data License" if "PhysioNet" in text else "as the source"
    return Terms(name, version, kind, file, False)
