"""Coded events: diagnoses, drugs, laboratory values, vital signs, static facts."""

from encoders.codes.bag import CodeBag
from encoders.codes.gru import CodeGRU
from encoders.codes.transformer import CodeTransformer
from encoders.codes.vocabulary import CodeInputs, CodeVocabulary

CODES: dict[str, type] = {"bag": CodeBag, "gru": CodeGRU, "transformer": CodeTransformer}

__all__ = ["CODES", "CodeBag", "CodeGRU", "CodeInputs", "CodeTransformer", "CodeVocabulary"]
