"""Every architecture of the interop tests, by the library that it comes from."""

from .timm_networks import TIMM
from .torch_networks import TORCH
from .torchvision_networks import TORCHVISION
from .transformers_networks import TRANSFORMERS

ZOO = [*TIMM, *TORCHVISION, *TRANSFORMERS, *TORCH]
