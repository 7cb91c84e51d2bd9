"""What fusing is: tokens of modalities in, views of patients out. Imports torch only and knows no encoder.

What needs torch is loaded when it is first asked for: converting data needs names and errors only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fusion.component import (
    Architecture,
    Choice,
    Float,
    Hyperparameter,
    Int,
    Spec,
    UsageError,
    build,
    find,
    hyperparameters,
)

if TYPE_CHECKING:
    from fusion.catalogue import (
        FUSIONS,
        AdaptationGateFusion,
        AllToAllAttentionFusion,
        AutoFMFusion,
        BottleneckFusion,
        ClsAttentionFusion,
        Criterion,
        CrossAttentionFusion,
        DrFuseFusion,
        EarlyFusion,
        FlexMoEFusion,
        Fused,
        FuseMoEFusion,
        FusionModel,
        GatedFusion,
        InterleavedAttentionFusion,
        LateFusion,
        LatentAttentionFusion,
        LowRankTensorFusion,
        MedFuseFusion,
        ModulationFusion,
        MultiLevelFusion,
        MultiModNFusion,
        ProductOfExpertsFusion,
        ShaSpecFusion,
        StackingFusion,
        SumFusion,
        Task,
        TensorFusion,
        Tokens,
        TwoWayAttentionFusion,
        activate,
    )

__all__ = [
    "FUSIONS",
    "AdaptationGateFusion",
    "AllToAllAttentionFusion",
    "Architecture",
    "AutoFMFusion",
    "BottleneckFusion",
    "Choice",
    "ClsAttentionFusion",
    "Criterion",
    "CrossAttentionFusion",
    "DrFuseFusion",
    "EarlyFusion",
    "FlexMoEFusion",
    "Float",
    "FuseMoEFusion",
    "Fused",
    "FusionModel",
    "GatedFusion",
    "Hyperparameter",
    "Int",
    "InterleavedAttentionFusion",
    "LateFusion",
    "LatentAttentionFusion",
    "LowRankTensorFusion",
    "MedFuseFusion",
    "ModulationFusion",
    "MultiLevelFusion",
    "MultiModNFusion",
    "ProductOfExpertsFusion",
    "ShaSpecFusion",
    "Spec",
    "StackingFusion",
    "SumFusion",
    "Task",
    "TensorFusion",
    "Tokens",
    "TwoWayAttentionFusion",
    "UsageError",
    "activate",
    "build",
    "find",
    "hyperparameters",
]


def __getattr__(name: str) -> Any:
    """Return what the catalogue has of this name, and load it with torch."""
    if name not in __all__:
        raise AttributeError(f"module 'fusion' has no attribute '{name}'")
    found = getattr(import_module("fusion.catalogue"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
