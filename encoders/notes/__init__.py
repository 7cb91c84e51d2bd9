"""Clinical notes: texts with the time they became available and their kind."""

from encoders.notes.bag import NoteBag
from encoders.notes.pretrained import NotePretrained
from encoders.notes.subwords import Subwords
from encoders.notes.transformer import NoteTransformer
from encoders.notes.words import NoteInputs, Words

NOTES: dict[str, type] = {"bag": NoteBag, "transformer": NoteTransformer, "pretrained": NotePretrained}

__all__ = ["NOTES", "NoteBag", "NoteInputs", "NotePretrained", "NoteTransformer", "Subwords", "Words"]
