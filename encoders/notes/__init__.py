"""Clinical notes: texts with the time they became available and their kind."""

from encoders.artefact import Artefact
from encoders.notes.bag import NoteBag
from encoders.notes.chunks import ChunkInputs, NoteChunks
from encoders.notes.hierarchical import NoteHierarchy
from encoders.notes.lora import NoteLora
from encoders.notes.pretrained import NotePretrained
from encoders.notes.subwords import Subwords
from encoders.notes.terms import TermInputs, Terms
from encoders.notes.tfidf import NoteTfidf
from encoders.notes.transformer import NoteTransformer
from encoders.notes.words import NoteInputs, Words

NOTES: dict[str, type] = {
    "bag": NoteBag,
    "tfidf": NoteTfidf,
    "transformer": NoteTransformer,
    "hierarchical": NoteHierarchy,
    "pretrained": NotePretrained,
    "lora": NoteLora,
    "artefact": Artefact,
}

__all__ = [
    "NOTES",
    "ChunkInputs",
    "NoteBag",
    "NoteChunks",
    "NoteHierarchy",
    "NoteInputs",
    "NoteLora",
    "NotePretrained",
    "NoteTfidf",
    "NoteTransformer",
    "Subwords",
    "TermInputs",
    "Terms",
    "Words",
]
