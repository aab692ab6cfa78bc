"""Networks of timm at their smallest."""

from functools import partial
from typing import Any

from torch import nn

from .architecture import Architecture, images

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
CI = {"in_ci": True}
RESNET = {"layers": (1, 1, 1, 1), "channels": (16, 16, 16, 32)}
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
    "resnet10t": (32, RESNET | {"stem_width": 8}, "tiered stem, average-pool shortcuts", CI),
    "seresnet18": (32, RESNET, "squeeze and excitation by 1 x 1 convolutions", {}),
    "skresnet18": (32, RESNET, "selective kernels: softmax over paths", {}),
    "resnest14d": (32, {"channels": (8, 8, 16, 16), "stem_width": 8}, "split attention, radix reshapes", {}),
    "res2net50_14w_8s": (32, RESNET, "channels split into a chain", {}),
    "test_efficientnet": (32, {}, "depthwise convolutions, BatchNormAct2d", CI),
    "efficientnet_b0": (32, {}, "depthwise convolutions, drop path", {}),
    "tf_efficientnet_lite0": (32, {}, "Conv2dSame: padding by the input's size", {}),
    "mobilenetv3_small_050": (32, {}, "hard swish, head after pooling", CI),
    "tf_mobilenetv3_small_minimal_100": (32, {}, "Conv2dSame: padding by the input's size", CI),
    "densenet121": (32, {"block_config": (2, 2), "growth_rate": 8}, "features by concatenation", CI),
    "dpn48b": (
        32,
        {"k_sec": (1, 1, 1, 1), "k_r": 16, "groups": 4, "num_init_features": 8, "inc_sec": (4, 4, 4, 4)},
        "two paths, BatchNormAct2d",
        {},
    ),
    "dla46_c": (32, {}, "deep layer aggregation", {}),
    "hrnet_w18_small": (32, {}, "branches of four resolutions", {}),
    "ese_vovnet19b_slim": (32, {}, "one-shot aggregation", {}),
    "rexnet_100": (32, {}, "partial residuals", {}),
    "ghostnet_050": (32, {}, "half of the channels by depthwise maps", {}),
    "repvgg_a0": (32, {}, "parallel branches with BatchNorm identities", {}),
    "convnext_atto": (32, STAGES, "1 x 1 convolutions, LayerNorm2d", CI),
    "convnextv2_atto": (32, STAGES, "global response normalisation", {}),
    "inception_next_tiny": (32, STAGES, "channels split over depthwise kernels", {}),
    "edgenext_xx_small": (
        64,
        {"depths": (1, 1, 1, 1), "dims": (16, 16, 32, 32), "heads": (2, 2, 2, 2)},
        "cross-covariance attention in a ConvNet",
        {},
    ),
    "mobilevit_xxs": (32, {}, "patches folded into the batch", CI),
    "mobilevitv2_050": (32, {}, "separable attention by 1 x 1 convolutions", {}),
    "test_nfnet": (
        32,
        {},
        "ScaledStdConv2d: standardised weights, left out; no normalisation",
        CI | {"least_share": 0.05},
    ),
    "vit_tiny_patch16_224": (32, VIT, "class token", CI),
    "deit_tiny_distilled_patch16_224": (32, VIT, "two heads, one each token", {}),
    "deit3_small_patch16_224": (32, VIT, "LayerScale", {}),
    "beit_base_patch16_224": (32, VIT, "q and v biases apart from the map", {}),
    "eva02_tiny_patch14_224": (32, VIT, "rotary positions, SwiGLU", {}),
    "cait_xxs24_224": (32, VIT, "talking heads: a Linear over heads", {}),
    "convit_tiny": (32, VIT, "positional attention", {}),
    "vit_relpos_small_patch16_224": (32, VIT, "a bias of relative positions", {}),
    "tnt_s_legacy_patch16_224": (
        32,
        {"img_size": 32, "embed_dim": 24, "depth": 2},
        "a transformer on pixels inside each patch, folded into the batch",
        {},
    ),
    "swin_tiny_patch4_window7_224": (32, SWIN, "windows folded into the batch", CI),
    "swinv2_tiny_window8_256": (32, SWIN, "an MLP over positions, without samples", {}),
    "xcit_nano_12_p16_224": (
        32,
        {"img_size": 32, "embed_dim": 24, "depth": 2, "num_heads": 2},
        "attention between channels; a BatchNorm stem",
        CI,
    ),
    "levit_128s": (
        64,
        {"img_size": 64, "embed_dim": (16, 16, 16), "depth": (1, 1, 1), "num_heads": (2, 2, 2), "key_dim": 4},
        "tokens folded into the batch for BatchNorm1d",
        {},
    ),
    "pit_ti_224": (
        32,
        {"img_size": 32, "base_dims": (8, 8, 8), "depth": (1, 1, 1), "heads": (2, 2, 2)},
        "pooled tokens",
        {},
    ),
    "coat_lite_tiny": (
        32,
        {
            "img_size": 32,
            "embed_dims": (16,) * 4,
            "serial_depths": (1,) * 4,
            "num_heads": 8,
            "mlp_ratios": (2,) * 4,
        },
        "convolutions as positions, one module in several blocks",
        {},
    ),
    "pvt_v2_b0": (
        32,
        {"embed_dims": (8, 16, 20, 32), "depths": (1, 1, 1, 1)},
        "keys from a smaller map",
        {},
    ),
    "visformer_tiny": (
        32,
        {"img_size": 32, "embed_dim": 32, "depth": (1, 1, 1)},
        "attention by convolutions",
        {},
    ),
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


def regnet(**options: Any) -> nn.Module:
    """RegNet of four narrow stages."""
    from timm.models.regnet import RegNet, RegNetCfg

    return RegNet(
        RegNetCfg(depth=5, w0=8, wa=12.0, wm=2.0, group_size=4, stem_width=8, **options), num_classes=4
    )


def bit() -> nn.Module:
    """ResNetV2 of Big Transfer: StdConv2d and GroupNormAct before the convolutions."""
    from timm.layers import GroupNormAct
    from timm.models.resnetv2 import ResNetV2

    norm = partial(GroupNormAct, num_groups=4)
    return ResNetV2(
        (1, 1, 1, 1), (16, 16, 32, 32), num_classes=4, stem_chs=8, stem_type="fixed", norm_layer=norm
    )


def mixer(kind: str) -> nn.Module:
    """MLP-Mixer, ResMLP or gMLP."""
    from timm.models import mlp_mixer

    blocks: dict[str, dict[str, Any]] = {
        "mixer": {},
        "resmlp": {"block_layer": mlp_mixer.ResBlock, "norm_layer": mlp_mixer.Affine, "mlp_ratio": 4},
        "gmlp": {
            "block_layer": mlp_mixer.SpatialGatingBlock,
            "mlp_layer": mlp_mixer.GatedMlp,
            "mlp_ratio": 4,
        },
    }
    return mlp_mixer.MlpMixer(4, img_size=32, patch_size=8, num_blocks=2, embed_dim=24, **blocks[kind])


def poolformer() -> nn.Module:
    """PoolFormer of four narrow stages."""
    from timm.models.metaformer import GroupNorm1, MetaFormer

    return MetaFormer(
        num_classes=4,
        **STAGES,
        downsample_norm=None,
        mlp_act=nn.GELU,
        mlp_bias=True,
        norm_layers=GroupNorm1,
        layer_scale_init_values=1e-5,
        res_scale_init_values=None,
        use_mlp_head=False,
    )


def caformer() -> nn.Module:
    """CAFormer: convolutions, then attention."""
    from timm.models.metaformer import Attention, LayerNorm2dNoBias, LayerNormNoBias, MetaFormer, SepConv

    return MetaFormer(
        num_classes=4,
        depths=(1, 1, 1, 1),
        dims=(8, 16, 32, 32),
        token_mixers=[SepConv, SepConv, Attention, Attention],
        norm_layers=[LayerNorm2dNoBias] * 2 + [LayerNormNoBias] * 2,
    )


def volo() -> nn.Module:
    """VOLO: outlook attention, then attention, then a class token."""
    from timm.models.volo import VOLO

    return VOLO(
        (1, 1, 1, 1),
        32,
        num_classes=4,
        patch_size=8,
        stem_hidden_dim=8,
        embed_dims=(16,) * 4,
        num_heads=(2,) * 4,
    )


BUILT = {
    "regnetx": (regnet, "grouped convolutions, BatchNormAct2d", {}),
    "regnety": (partial(regnet, se_ratio=0.25), "grouped convolutions, squeeze and excitation", CI),
    "resnetv2-bit": (
        bit,
        "StdConv2d: standardised weights, left out; GroupNormAct",
        CI | {"least_share": 0.01},
    ),
    "mixer": (partial(mixer, "mixer"), "a Linear over tokens", CI),
    "resmlp": (partial(mixer, "resmlp"), "Affine; a Linear over tokens", {}),
    "gmlp": (partial(mixer, "gmlp"), "spatial gating", {}),
    "poolformer": (poolformer, "pooling for attention", CI),
    "caformer": (caformer, "StarReLU, scaled residuals, a head of its own", {}),
    "volo": (volo, "outlook attention: unfold and fold", {}),
}
TIMM = [
    Architecture(
        f"timm-{name}",
        lambda name=name, arguments=arguments: timm_network(name, arguments),
        images(size),
        special,
        **fields,
    )
    for name, (size, arguments, special, fields) in TABLE.items()
] + [
    Architecture(f"timm-{name}", build, images(32), special, **fields)
    for name, (build, special, fields) in BUILT.items()
]
