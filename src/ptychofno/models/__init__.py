"""Generator networks and their parts."""

from ptychofno.models.blocks import ConvBlock, PtychoBlock, SpatialLifter, StablePtychoBlock
from ptychofno.models.generators import (
    CascadedFNOGenerator,
    CNNGenerator,
    Generator,
    HybridUNOGenerator,
    StableHybridUNOGenerator,
)
from ptychofno.models.inputs import AmplitudeInput, BackprojectionInput
from ptychofno.models.outputs import PatchOutput, ProjectedOutput
from ptychofno.models.registry import build_generator, made, of_ours, part
from ptychofno.models.spectral import Band, SpectralConv2d, kept_modes, pack, unpack

__all__ = [
    "AmplitudeInput",
    "BackprojectionInput",
    "Band",
    "CNNGenerator",
    "CascadedFNOGenerator",
    "ConvBlock",
    "Generator",
    "HybridUNOGenerator",
    "PatchOutput",
    "ProjectedOutput",
    "PtychoBlock",
    "SpatialLifter",
    "SpectralConv2d",
    "StableHybridUNOGenerator",
    "StablePtychoBlock",
    "build_generator",
    "kept_modes",
    "made",
    "of_ours",
    "pack",
    "part",
    "unpack",
]
