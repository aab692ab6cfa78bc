"""Networks of torchvision at their smallest."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from .architecture import Architecture, images


def build(path: str, **arguments: Any) -> Callable[[], nn.Module]:
    """Calls what a dotted path in torchvision.models names; four outputs."""

    def call() -> nn.Module:
        import torchvision.models

        found: Any = torchvision.models
        for part in path.split("."):
            found = getattr(found, part)
        return found(num_classes=4, **arguments)

    return call


def convnext() -> nn.Module:
    """ConvNeXt of two stages."""
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=4)


def resnet() -> nn.Module:
    """ResNet of basic blocks, one a stage."""
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)


row = partial(Architecture, inputs=images(32))

TORCHVISION = [
    row("torchvision-resnet", resnet, special="BatchNorm, shortcuts", in_ci=True),
    row(
        "torchvision-vit",
        build(
            "VisionTransformer",
            image_size=32,
            patch_size=8,
            num_layers=2,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=24,
        ),
        special="nn.MultiheadAttention, self-attention",
        in_ci=True,
    ),
    *(
        row(
            f"torchvision-{name}",
            build(
                "SwinTransformer",
                patch_size=[2, 2],
                embed_dim=12,
                depths=[2, 2],
                num_heads=[2, 2],
                window_size=[4, 4],
                **arguments,
            ),
            special=special,
            in_ci=name == "swin",
        )
        for name, arguments, special in (
            ("swin", {}, "windows folded into the batch, weights passed to a function"),
        )
    ),
    row("torchvision-mobilenet-v2", build("mobilenet_v2", width_mult=0.25), special="inverted residuals"),
    row("torchvision-mobilenet-v3", build("mobilenet_v3_small"), special="hard swish, dropout"),
    row("torchvision-shufflenet", build("shufflenet_v2_x0_5"), special="channels shuffled"),
    row("torchvision-squeezenet", build("squeezenet1_1"), special="a convolution as classifier"),
    row(
        "torchvision-googlenet",
        build("googlenet", init_weights=False, aux_logits=True),
        special="a tuple in training, a tensor in evaluation; auxiliary heads",
        output=lambda found: getattr(found, "logits", found),
        least_share=0.3,
    ),
    row("torchvision-efficientnet", build("efficientnet_b0"), special="drop path, dropout"),
    row("torchvision-regnet", build("regnet_y_400mf"), special="squeeze and excitation"),
    row("torchvision-convnext", convnext, special="a Linear on channels last, layer scale"),
    row(
        "torchvision-densenet",
        build("DenseNet", growth_rate=8, block_config=(2, 2), num_init_features=8),
        special="features by concatenation",
    ),
    row("torchvision-mnasnet", build("mnasnet0_5"), special="BatchNorm of momentum 3e-4"),
]
