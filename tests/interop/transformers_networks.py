"""Networks of Hugging Face's transformers from tiny configurations."""

from collections.abc import Callable
from typing import Any

from torch import Generator, Tensor, nn

from .architecture import Architecture, Inputs, images, keyword, sequences, tokens

LAYERS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = LAYERS | {"vocab_size": 30, "max_position_embeddings": 20}
IMAGE = LAYERS | {"image_size": 16, "patch_size": 8}
SPEECH = LAYERS | {
    "conv_dim": (8, 8),
    "conv_stride": (5, 4),
    "conv_kernel": (10, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
PIXELS = keyword("pixel_values", images(16))
WAVES = keyword("input_values", lambda generator: sequences(1, 400)(generator).squeeze(1))
STAGES = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}


def mean_token(found: Any) -> Tensor:
    """The mean over tokens (N, D)."""
    return found.last_hidden_state.mean(1)


def masked_patches(generator: Generator) -> dict[str, Tensor]:
    """Images and the noise by which patches are hidden."""
    return {**PIXELS(generator), "noise": sequences(1, 4)(generator).squeeze(1)}


def network(name: str, config: str, arguments: dict[str, Any]) -> Callable[[], nn.Module]:
    """The class of that name on its configuration."""

    def build() -> nn.Module:
        import transformers

        return getattr(transformers, name)(getattr(transformers, config)(**arguments))

    return build


def entry(
    name: str,
    arguments: dict[str, Any],
    inputs: Callable[[Generator], Inputs],
    special: str,
    config: str | None = None,
    **fields: Any,
) -> Architecture:
    """A row of the table; most configurations are called after their class."""
    config = config or name.replace("Encoder", "").removesuffix("Model") + "Config"
    return Architecture(
        f"transformers-{name}",
        network(name, config, arguments),
        inputs,
        special,
        **({"output": "pooler_output"} | fields),
    )


TRANSFORMERS = [
    entry("BertModel", TEXT, tokens, "dictionary inputs, embeddings by index", in_ci=True),
    entry("RobertaModel", TEXT, tokens, "positions from the ids"),
    entry("AlbertModel", TEXT | {"embedding_size": 8}, tokens, "one layer called twice", least_share=0.0),
    entry("MPNetModel", TEXT, tokens, "a bias of relative positions"),
    entry("ElectraModel", TEXT | {"embedding_size": 8}, tokens, "no pooler", output=mean_token),
    entry(
        "DistilBertModel",
        {
            "vocab_size": 30,
            "dim": 16,
            "n_layers": 2,
            "n_heads": 2,
            "hidden_dim": 24,
            "max_position_embeddings": 20,
        },
        tokens,
        "other names",
        output=mean_token,
    ),
    entry(
        "GPT2Model",
        {
            "vocab_size": 30,
            "n_embd": 16,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 20,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        tokens,
        "Conv1D: a Linear with its weight transposed",
        output=mean_token,
        least_share=0.0,
        in_ci=True,
    ),
    entry(
        "LlamaModel",
        TEXT | {"num_key_value_heads": 1},
        tokens,
        "RMSNorm, rotary positions; norms and positions in float32 whatever comes in",
        tolerance=1e-4,
        output=mean_token,
    ),
    entry(
        "T5EncoderModel",
        {"vocab_size": 30, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2},
        tokens,
        "one embedding under two names",
        output=mean_token,
    ),
    entry("ViTModel", IMAGE, PIXELS, "called by keyword", in_ci=True),
    entry("DeiTModel", IMAGE, PIXELS, "called by keyword"),
    entry("BeitModel", IMAGE, PIXELS, "biases apart"),
    entry("CLIPVisionModel", IMAGE, PIXELS, "normalisation before the encoder"),
    entry("SiglipVisionModel", IMAGE, PIXELS, "pooling by nn.MultiheadAttention with a learnt query"),
    Architecture(
        "transformers-ViTMAEModel-masked",
        network("ViTMAEModel", "ViTMAEConfig", IMAGE),
        PIXELS,
        "random masking",
        output=mean_token,
        is_random=True,
    ),
    entry(
        "ViTMAEModel", IMAGE, masked_patches, "random masking, its noise given", output=mean_token, in_ci=True
    ),
    entry(
        "Dinov2Model",
        {k: v for k, v in IMAGE.items() if k != "intermediate_size"} | {"mlp_ratio": 2},
        PIXELS,
        "LayerScale",
    ),
    entry(
        "SwinModel",
        {
            "image_size": 16,
            "patch_size": 2,
            "embed_dim": 8,
            "depths": [2, 2],
            "num_heads": [2, 2],
            "window_size": 4,
        },
        PIXELS,
        "windows folded into the batch",
    ),
    entry(
        "ConvNextModel",
        {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "patch_size": 2},
        PIXELS,
        "channels last inside blocks",
    ),
    entry(
        "ResNetModel",
        STAGES,
        PIXELS,
        "a pooler of four dimensions",
        output=lambda found: found.pooler_output.flatten(1),
    ),
    entry(
        "SegformerModel",
        {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
        keyword("pixel_values", images(32)),
        "keys from a smaller map",
        output=lambda found: found.last_hidden_state.mean((2, 3)),
    ),
    entry(
        "MobileViTModel",
        {
            "image_size": 32,
            "hidden_sizes": [16, 16, 16],
            "neck_hidden_sizes": [8, 8, 8, 8, 8, 8, 16],
            "num_attention_heads": 2,
        },
        keyword("pixel_values", images(32)),
        "patches folded into the batch",
    ),
    entry(
        "Wav2Vec2Model",
        SPEECH,
        WAVES,
        "convolutions over time, one with a parametrised weight, masks drawn in training",
        output=mean_token,
        in_ci=True,
    ),
    entry("HubertModel", SPEECH, WAVES, "the same, normalised otherwise", output=mean_token),
    entry("WavLMModel", SPEECH, WAVES, "gated relative positions, attention by F", output=mean_token),
    entry(
        "ASTModel",
        LAYERS
        | {"patch_size": 4, "num_mel_bins": 8, "max_length": 16, "frequency_stride": 4, "time_stride": 4},
        keyword("input_values", sequences(16, 8)),
        "spectrograms (N, T, F)",
    ),
]
