"""A pretrained language model of transformers, fine-tuned by low-rank adapters."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from torch import nn

from encoders.notes.language import average, load_language, read_windows
from encoders.notes.subwords import Subwords
from encoders.notes.words import NoteInputs
from fusion.component import Choice, Float, UsageError
from fusion.tokens import Tokens


class NoteLora(nn.Module):
    """The last hidden states of a language model whose linear layers have trained low-rank corrections.

    The model's own weights stay as they are, so a hundredth of the parameters is trained, and an optimiser keeps a
    hundredth of the memory; at the start the corrections are zero.

    Shape:
        NoteInputs (B, T) -> Tokens (B, ceil(T / stride), D).

    Raises:
        UsageError: the model cannot be loaded, or peft is not installed.

    Reference:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2022 (in every linear layer, as Dettmers et al.,
        QLoRA, 2023; `scale` is alpha / rank).
    """

    preprocessor: ClassVar[type] = Subwords

    def __init__(
        self,
        preprocessor: Subwords,
        dim: int,
        *,
        model: str = "emilyalsentzer/Bio_ClinicalBERT",
        rank: Annotated[int, Choice(4, 8, 16)] = 8,
        scale: Annotated[float, Float(0.5, 4.0, log=True)] = 2.0,
        stride: Annotated[int, Choice(4, 8, 16)] = 8,
        dropout: Annotated[float, Float(0.0, 0.5)] = 0.1,
    ) -> None:
        super().__init__()
        self.model, self.stride, self.window = model, stride, preprocessor.window
        self.language = _adapted(load_language(preprocessor, model), rank, scale, dropout)
        width = int(self.language.config.hidden_size)
        self.adapt = nn.Sequential(nn.LayerNorm(width), nn.Dropout(dropout), nn.Linear(width, dim))

    def forward(self, inputs: NoteInputs) -> Tokens:
        """Encode each patient's notes."""
        states = read_windows(self.language, inputs.ids, inputs.mask, self.window)
        tokens = average(states, inputs.mask, self.stride)
        return Tokens(self.adapt(tokens.values), tokens.mask)


def _adapted(language: Any, rank: int, scale: float, dropout: float) -> Any:
    """Put adapters beside every linear layer and freeze the rest."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UsageError("notes.lora needs peft; install it with: pip install 'ehrfusion[lora]'") from None
    from transformers.pytorch_utils import Conv1D

    config = LoraConfig(
        r=rank,
        lora_alpha=scale * rank,
        lora_dropout=dropout,
        target_modules="all-linear",
        fan_in_fan_out=any(isinstance(each, Conv1D) for each in language.modules()),  # GPT-2 stores its transpose
    )
    return inject_adapter_in_model(config, language)
