"""The short help of `fit`, `validate` and `test`; jsonargparse's own has five hundred lines."""

from lightning_ssl_theory.cli.refusals import PROGRAM

_ABOUT = {
    "fit": "Train the model of a YAML configuration, in a run folder of its own.",
    "validate": "Run the validation of a model, with the diagnostics that look at its images.",
    "test": "Run the test of a model; diagnostics look in `fit` and `validate` only.",
}
_EXAMPLES = {
    "fit": (
        "--config examples/configs/orthogonal_digits.yaml",
        "--config my.yaml --name short --trainer.max_epochs 5",
        "--config my.yaml --ckpt_path last",
    ),
    "validate": ("--config my.yaml --ckpt_path my.ckpt",),
    "test": ("--config my.yaml --ckpt_path my.ckpt",),
}
_OPTIONS = (
    ("-c, --config FILE", "keys model, data and trainer; the last of several wins"),
    ("--name NAME", "name of the run folder (default: the configuration's)"),
    ("--output_dir FOLDER", "where run folders lie (default: runs)"),
    ("--wandb MODE", "online, offline or off (default: WANDB_MODE, or offline)"),
    ("--ckpt_path FILE", "checkpoint to start from"),
    ("--seed_everything N", "seed of weights, order and views (default: 0)"),
    ("--print_config", "print the configuration with all defaults, and stop"),
    ("--KEY VALUE", "any key of the configuration, as --data.batch_size 64"),
    ("--model.help CLASS", "arguments of a model; --data.help CLASS of its data, and"),
    ("", "--trainer.callbacks.help CLASS of a callback"),
    ("--help=all", "every option, those of the Trainer included"),
)


def training_help(command: str) -> str:
    """The help of a command: what it does, how it is called, the options that are needed most.

    Args:
        command: "fit", "validate" or "test".

    Returns:
        The text, 80 columns wide.
    """
    examples = [f"  {PROGRAM} {command} {example}" for example in _EXAMPLES[command]]
    options = [
        f"  {name:<21}{text if command == 'fit' or name != '--ckpt_path FILE' else 'checkpoint of the model'}"
        for name, text in _OPTIONS
    ]
    if command == "fit":
        options.insert(5, f"  {'--ckpt_path last':<21}go on in the folder of the run of this name")
    lines = [
        f"usage: {PROGRAM} {command} --config FILE [--KEY VALUE ...]",
        "",
        _ABOUT[command],
        "",
        "examples:",
        *examples,
        "",
        "options:",
        *options,
        "",
        f"Something does not work? `{PROGRAM} doctor` looks at this machine.",
    ]
    return "\n".join(lines)
