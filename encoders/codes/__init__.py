"""Coded events: diagnoses, drugs, laboratory values, vital signs, static facts."""

from encoders.artefact import Artefact
from encoders.codes.bag import CodeBag
from encoders.codes.descriptions import DescriptionTransformer
from encoders.codes.digits import DigitTransformer
from encoders.codes.generative import TimelineTransformer
from encoders.codes.gru import CodeGRU
from encoders.codes.hierarchy import VisitTransformer
from encoders.codes.mamba import CodeMamba
from encoders.codes.pseudo_notes import PseudoNotes, PseudoNoteTransformer
from encoders.codes.record_text import RecordText, RecordTextEncoder
from encoders.codes.retain import Retain
from encoders.codes.stagenet import StageNet
from encoders.codes.tlstm import TimeAwareLSTM
from encoders.codes.transformer import CodeTransformer
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary

CODES: dict[str, type] = {
    "bag": CodeBag,
    "gru": CodeGRU,
    "tlstm": TimeAwareLSTM,
    "retain": Retain,
    "stagenet": StageNet,
    "transformer": CodeTransformer,
    "visits": VisitTransformer,
    "mamba": CodeMamba,
    "descriptions": DescriptionTransformer,
    "digits": DigitTransformer,
    "pseudo_notes": PseudoNoteTransformer,
    "record_text": RecordTextEncoder,
    "timeline": TimelineTransformer,
    "artefact": Artefact,
}

TEXTS = ("pseudo_notes", "record_text")
"""Encoders that read the record as text: what they know in numbers, they know in words."""

__all__ = [
    "CODES",
    "TEXTS",
    "CodeBag",
    "CodeGRU",
    "CodeInputs",
    "CodeMamba",
    "CodeTransformer",
    "CodeVocabulary",
    "DescriptionTransformer",
    "DigitTransformer",
    "PseudoNoteTransformer",
    "PseudoNotes",
    "RecordText",
    "RecordTextEncoder",
    "Retain",
    "StageNet",
    "TimeAwareLSTM",
    "TimelineTransformer",
    "VisitTransformer",
]
