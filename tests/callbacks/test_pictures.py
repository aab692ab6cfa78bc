"""Loggers that take pictures get them on the first rank; others are left alone."""

from types import SimpleNamespace

import torch

from lightning_ssl_theory.callbacks.pictures import (
    MAX_PICTURES,
    MAX_ROWS,
    Curve,
    Table,
    filter_grid,
    is_picture_due,
    log_pictures,
)


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


class WithTables(WithImages):
    """Also like the logger of Weights & Biases."""

    def log_table(self, key, columns, data, step):
        self.seen.append((key, columns, data, step))

    def log_metrics(self, values, step):
        self.seen.append((values, step))


def test_curves_and_tables_go_to_loggers_of_tables_alone():
    loggers = [WithTables(), WithImages(), WithExperiment()]
    trainer = SimpleNamespace(is_global_zero=True, loggers=loggers, global_step=7)
    rows = tuple((k, 0.5) for k in range(MAX_ROWS + 5))
    log_pictures(trainer, {"t": Table(("class", "share"), rows), "c": Curve("Spectrum", (3.0, 1.0))})
    (key, columns, data, step), (values, _) = loggers[0].seen
    assert (key, columns, len(data), data[1], step) == ("t", ["class", "share"], MAX_ROWS, [1, 0.5], 7)
    assert values["c"].table.data == [[1, 3.0], [2, 1.0]]
    assert loggers[1].seen == loggers[2].seen == []


def test_no_more_pictures_than_a_page_bears():
    logger = WithImages()
    trainer = SimpleNamespace(is_global_zero=True, loggers=[logger], global_step=7)
    log_pictures(trainer, {str(k): torch.ones(1, 2, 3) for k in range(40)})
    assert len(logger.seen) == MAX_PICTURES


def test_ever_fewer_looks_show_pictures():
    due = [n for n in range(5000) if is_picture_due(n)]
    assert due[:20] == [*range(16), 16, 18, 20, 22]
    assert [n for n in due if 32 <= n < 64] == list(range(32, 64, 4))
    assert len(due) == 82


def test_filters_stand_side_by_side():
    picture = filter_grid([torch.tensor([[[[2.0]]], [[[-1.0]]]]), torch.zeros(2, 1, 1, 1)])
    assert picture.shape == (3, 5, 5)
    assert picture[0, 1::2, 1::2].tolist() == [
        [1.0, 0.25],
        [0.5, 0.5],
    ]  # of the row's largest weight; zero is grey
