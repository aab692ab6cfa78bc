"""Networks of timm at their smallest."""

from typing import Any

from torch import nn

from .architecture import Architecture, images

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
STAGES = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
SWIN = {
    "img_size": 32,
    "patch_size": 2,
    "window_size": 4,
    "embed_dim": 12,
    "depths": (2, 2),
    "num_heads": (2, 2),
}

# name: (image size, arguments, what is special, fields of Architecture)
TABLE: dict[str, tuple[int, dict[str, Any], str, dict[str, Any]]] = {
    "resnet10t": (32, {}, "tiered stem, average-pool shortcuts", {"in_ci": True}),
    "seresnet18": (32, {}, "squeeze and excitation by 1 x 1 convolutions", {}),
    "skresnet18": (32, {}, "selective kernels: softmax over paths", {}),
    "resnest14d": (32, {}, "split attention, radix reshapes", {}),
    "res2net50_14w_8s": (32, {"layers": (1, 1, 1, 1)}, "channels split into a chain", {}),
    "regnetx_002": (32, {}, "grouped convolutions, BatchNormAct2d", {}),
    "regnety_002": (32, {}, "grouped convolutions, squeeze and excitation", {"in_ci": True}),
    "test_efficientnet": (32, {}, "depthwise convolutions, BatchNormAct2d", {"in_ci": True}),
    "efficientnet_b0": (32, {}, "depthwise convolutions, drop path", {}),
    "tf_efficientnet_lite0": (32, {}, "Conv2dSame: padding by the input's size", {}),
    "mobilenetv3_small_050": (32, {}, "hard swish, head after pooling", {"in_ci": True}),
    "tf_mobilenetv3_small_minimal_100": (32, {}, "Conv2dSame: padding by the input's size", {"in_ci": True}),
    "densenet121": (32, {"block_config": (2, 2), "growth_rate": 8}, "features by concatenation", {"in_ci": True}),
    "dpn48b": (32, {}, "two paths, BatchNormAct2d", {}),
    "cspresnet50": (32, {}, "cross-stage partial blocks", {}),
    "dla46_c": (32, {}, "deep layer aggregation", {}),
    "hrnet_w18_small": (32, {}, "branches of four resolutions", {}),
    "ese_vovnet19b_slim": (32, {}, "one-shot aggregation", {}),
    "rexnet_100": (32, {}, "partial residuals", {}),
    "ghostnet_050": (32, {}, "half of the channels by depthwise maps", {}),
    "repvgg_a0": (32, {}, "parallel branches with BatchNorm identities", {}),
    "mobileone_s0": (32, {}, "parallel branches, scale branches", {}),
    "convnext_atto": (32, STAGES, "1 x 1 convolutions, LayerNorm2d", {"in_ci": True}),
    "convnextv2_atto": (32, STAGES, "global response normalisation", {}),
    "inception_next_tiny": (32, STAGES, "channels split over depthwise kernels", {}),
    "poolformerv2_s12": (32, {}, "pooling for attention, StarReLU", {}),
    "edgenext_xx_small": (64, {}, "cross-covariance attention in a ConvNet", {}),
    "mobilevit_xxs": (32, {}, "patches folded into the batch", {"in_ci": True}),
    "mobilevitv2_050": (32, {}, "separable attention by 1 x 1 convolutions", {}),
    "test_nfnet": (32, {}, "ScaledStdConv2d: standardised weights, no normalisation", {"in_ci": True}),
    "resnetv2_50d_gn": (32, {"layers": (1, 1, 1, 1), "channels": (16, 16, 16, 16)}, "pre-activation, GroupNormAct", {}),
    "vit_tiny_patch16_224": (32, VIT, "class token", {"in_ci": True}),
    "deit_tiny_distilled_patch16_224": (32, VIT, "two heads, one each token", {}),
    "deit3_small_patch16_224": (32, VIT, "LayerScale", {}),
    "beit_base_patch16_224": (32, VIT, "q and v biases apart from the map", {}),
    "eva02_tiny_patch14_224": (32, VIT, "rotary positions, SwiGLU", {}),
    "cait_xxs24_224": (32, VIT, "talking heads: a Linear over heads", {}),
    "convit_tiny": (32, VIT, "positional attention", {}),
    "vit_relpos_small_patch16_224": (32, VIT, "a bias of relative positions", {}),
    "swin_tiny_patch4_window7_224": (32, SWIN, "windows folded into the batch", {"in_ci": True}),
    "swinv2_tiny_window8_256": (32, SWIN, "an MLP over positions, without samples", {}),
    "xcit_nano_12_p16_224": (
        32,
        {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2},
        "attention between channels; a BatchNorm stem",
        {"in_ci": True},
    ),
    "resmlp_12_224": (32, {"img_size": 32}, "Affine; a Linear over tokens", {}),
    "gmlp_ti16_224": (32, {"img_size": 32}, "spatial gating", {}),
    "mixer_s32_224": (64, {"img_size": 64}, "a Linear over tokens", {"in_ci": True}),
    "levit_128s": (64, {"img_size": 64}, "LinearNorm: tokens folded for BatchNorm1d", {}),
    "pit_ti_224": (32, {"img_size": 32}, "pooled tokens", {}),
    "hiera_tiny_224": (
        64,
        {"img_size": (64, 64), "embed_dim": 16, "stages": (1, 1, 1, 1), "num_heads": 1},
        "tokens unrolled by windows",
        {},
    ),
    "twins_svt_small": (
        32,
        {"img_size": 32, "embed_dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2)},
        "local and global attention",
        {},
    ),
    "davit_tiny": (
        32,
        {"depths": (1, 1, 1, 1), "embed_dims": (8, 16, 24, 32), "num_heads": (1, 2, 2, 2), "window_size": 4},
        "attention over windows and over channels",
        {},
    ),
    "maxvit_pico_rw_256": (64, {"img_size": 64}, "windows and grids", {}),
    "test_mambaout": (32, {}, "gated convolutions, channels last", {}),
    "test_byobnet": (32, {}, "blocks of several families", {}),
}


def timm_network(name: str, arguments: dict[str, Any]) -> nn.Module:
    """An untrained network with four outputs."""
    import timm

    return timm.create_model(name, pretrained=False, num_classes=4, **arguments)


TIMM = [
    Architecture(
        f"timm-{name}",
        lambda name=name, arguments=arguments: timm_network(name, arguments),
        images(size),
        special,
        **fields,
    )
    for name, (size, arguments, special, fields) in TABLE.items()
]
