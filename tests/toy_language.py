"""A language model of two layers and its tokenizer in a folder, as transformers saves them."""

from __future__ import annotations

from pathlib import Path

import torch

MARKS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


def save_language(folder: Path, words: str, positions: int) -> str:
    """Save one that knows some words, numbered from 4 after its marks, and reads so many at once."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = [*MARKS.values(), *words.split()]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **MARKS).save_pretrained(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(vocabulary), max_position_embeddings=positions, **size)
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return str(folder)
