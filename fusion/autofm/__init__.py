"""AutoFM: a space of two-stage fusion architectures, one of them as a fusion, all of them as one network."""

from fusion.autofm.fusion import VECTORS, AutoFMFusion
from fusion.autofm.genes import Genes, complete, gene_options
from fusion.autofm.supernet import AutoFMSupernet

__all__ = ["VECTORS", "AutoFMFusion", "AutoFMSupernet", "Genes", "complete", "gene_options"]
