"""Loggers that take pictures get them on the first rank; others are left alone."""

from types import SimpleNamespace

import torch

from lightning_ssl_theory.callbacks.pictures import log_pictures


class WithImages:
    """Like the logger of Weights & Biases."""

    def __init__(self):
        self.seen = []

    def log_image(self, key, images, step):
        self.seen.append((key, [image.shape for image in images], images[0].max(), step))


class WithExperiment:
    """Like the logger of TensorBoard."""

    def __init__(self):
        self.seen = []
        self.experiment = SimpleNamespace(add_image=lambda *args: self.seen.append(args))


def test_each_logger_gets_what_it_takes():
    loggers = [WithImages(), WithExperiment(), SimpleNamespace(experiment=None)]
    trainer = SimpleNamespace(is_global_zero=True, loggers=loggers, global_step=7)
    grey, colour = torch.ones(1, 2, 3), torch.zeros(3, 4, 5)
    log_pictures(trainer, {"a": grey, "b": colour})
    assert loggers[0].seen == [("a", [(2, 3)], 255, 7), ("b", [(4, 5, 3)], 0, 7)]
    assert [(key, image.shape, step) for key, image, step in loggers[1].seen] == [
        ("a", (1, 2, 3), 7),
        ("b", (3, 4, 5), 7),
    ]
    log_pictures(SimpleNamespace(is_global_zero=False, loggers=[WithImages()], global_step=7), {"a": grey})
