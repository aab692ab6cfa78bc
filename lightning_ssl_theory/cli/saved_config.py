"""The configuration that a run keeps, which starts the same run again."""

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger

from lightning_ssl_theory.report.write import write_whole

_LOST = "Unable to serialize instance"


class SavedConfig(SaveConfigCallback):
    """Keeps the configuration in the run folder, and with the run at Weights & Biases."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml."""
        self._folder = trainer.log_dir  # all processes ask for it together
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it again where jsonargparse has lost a value, and send it along."""
        dumped = yaml.safe_load(self.parser.dump(self.config, skip_none=False))
        settings = plain_settings(dumped, self.config)
        if settings != dumped and self._folder is not None:
            text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
            write_whole(Path(self._folder) / self.config_filename, text)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(settings)


def plain_settings(dumped: Any, parsed: Any) -> Any:
    """Settings to be saved, in which keys and indices stand as they were given.

    Where an argument may be a function or a name, jsonargparse takes a name for a function that it cannot write.

    Args:
        dumped: What jsonargparse writes, read back.
        parsed: The configuration that it wrote.

    Returns:
        The settings.
    """
    if isinstance(parsed, Namespace):
        parsed = vars(parsed)
    if isinstance(dumped, dict) and isinstance(parsed, dict):
        return {key: plain_settings(value, parsed.get(key)) for key, value in dumped.items()}
    if isinstance(dumped, list) and isinstance(parsed, list | tuple) and len(dumped) == len(parsed):
        return [plain_settings(*pair) for pair in zip(dumped, parsed, strict=True)]
    is_lost = isinstance(dumped, str) and dumped.startswith(_LOST)
    return parsed if is_lost and isinstance(parsed, str | int) else dumped
