"""All fusions by name, and what is needed to use them: everything of the package that needs torch."""

from fusion.all_to_all_attention import AllToAllAttentionFusion
from fusion.autofm import AutoFMFusion
from fusion.bottleneck import BottleneckFusion
from fusion.cls_attention import ClsAttentionFusion
from fusion.criterion import Criterion, activate
from fusion.cross_attention import CrossAttentionFusion
from fusion.drfuse import DrFuseFusion
from fusion.early import EarlyFusion
from fusion.film import ModulationFusion
from fusion.flexmoe import FlexMoEFusion
from fusion.fusemoe import FuseMoEFusion
from fusion.gated import GatedFusion
from fusion.interleaved_attention import InterleavedAttentionFusion
from fusion.late import LateFusion
from fusion.latent_attention import LatentAttentionFusion
from fusion.low_rank_tensor import LowRankTensorFusion
from fusion.mag import AdaptationGateFusion
from fusion.medfuse import MedFuseFusion
from fusion.model import Fused, FusionModel
from fusion.multi_level import MultiLevelFusion
from fusion.multimodn import MultiModNFusion
from fusion.product_of_experts import ProductOfExpertsFusion
from fusion.shaspec import ShaSpecFusion
from fusion.stacking import StackingFusion
from fusion.sum import SumFusion
from fusion.task import Task
from fusion.tensor import TensorFusion
from fusion.tokens import Tokens
from fusion.two_way_attention import TwoWayAttentionFusion

FUSIONS: dict[str, type] = {
    "early": EarlyFusion,
    "sum": SumFusion,
    "gated": GatedFusion,
    "mag": AdaptationGateFusion,
    "tensor": TensorFusion,
    "low_rank_tensor": LowRankTensorFusion,
    "film": ModulationFusion,
    "cross_attention": CrossAttentionFusion,
    "two_way_attention": TwoWayAttentionFusion,
    "all_to_all_attention": AllToAllAttentionFusion,
    "latent_attention": LatentAttentionFusion,
    "cls_attention": ClsAttentionFusion,
    "interleaved_attention": InterleavedAttentionFusion,
    "bottleneck": BottleneckFusion,
    "multi_level": MultiLevelFusion,
    "autofm": AutoFMFusion,
    "fusemoe": FuseMoEFusion,
    "flexmoe": FlexMoEFusion,
    "medfuse": MedFuseFusion,
    "multimodn": MultiModNFusion,
    "drfuse": DrFuseFusion,
    "shaspec": ShaSpecFusion,
    "product_of_experts": ProductOfExpertsFusion,
    "stacking": StackingFusion,
    "late": LateFusion,
}

__all__ = [
    "FUSIONS",
    "AdaptationGateFusion",
    "AllToAllAttentionFusion",
    "AutoFMFusion",
    "BottleneckFusion",
    "ClsAttentionFusion",
    "Criterion",
    "CrossAttentionFusion",
    "DrFuseFusion",
    "EarlyFusion",
    "FlexMoEFusion",
    "FuseMoEFusion",
    "Fused",
    "FusionModel",
    "GatedFusion",
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
    "StackingFusion",
    "SumFusion",
    "Task",
    "TensorFusion",
    "Tokens",
    "TwoWayAttentionFusion",
    "activate",
]
