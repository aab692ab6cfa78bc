"""Every argument of every callback can be given in YAML, arrives, and is written back so that it arrives again."""

import inspect
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser, set_loader
from lightning.pytorch import Callback
from torch.utils.data import DataLoader, TensorDataset

from lightning_ssl_theory import callbacks, losses
from lightning_ssl_theory.checks import InputError
from lightning_ssl_theory.cli import fit
from lightning_ssl_theory.cli.config_faults import _parameters
from lightning_ssl_theory.cli.saved_config import plain_settings
from lightning_ssl_theory.cli.yaml_values import register_tensors, tensor_of

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}") for text in (r"\s*Unable to serialize", r"\s*.*deprecated")
]
CLASSES = [
    found
    for name in callbacks.__all__
    if isinstance(found := getattr(callbacks, name), type) and not inspect.isabstract(found)
]


class Pictures(DataLoader):
    """A loader of one's own; of torch's, jsonargparse cannot tell which set it may have."""

    def __init__(self, size: int, batch_size: int = 1):
        super().__init__(TensorDataset(torch.zeros(size, 1, 2, 2), torch.arange(size)), batch_size)


def read(batch):
    return batch


LOADER = f"{{class_path: {__name__}.Pictures, init_args: {{size: 6, batch_size: 2}}}}"
# what a file may say of each argument; those of several callbacks mean the same in all of them
GIVEN = {
    "alpha": "0.1",
    "cap": "0.6",
    "contrastive": "false",
    "deltas": "[0.1, 0.2]",
    "dictionary": "[[1, 0], [0, 1]]",
    "epsilons": "[0.1]",
    "estimator": "unbiased",
    "every_n_epochs": "2",
    "every_n_steps": "5",
    "few_labels": "[3]",
    "fit_loader": LOADER,
    "flow": "grassmann",
    "growth": "0.1",
    "initial": "0.2",
    "k": "[2, 3]",
    "keep_dropout": "true",
    "layer": "projector",
    "layers": "[network.hidden, network.output]",
    "logistic_l2": "0.1",
    "loss": "{class_path: InfoNCELoss, init_args: {temperature: 0.2}}",
    "max_overhead": "0.1",
    "memory_budget": "1000",
    "name": "second",
    "network": "network",
    "num_classes": "7",
    "num_eigenvalues": "3",
    "num_fit_samples": "null",
    "num_latents": "3",
    "num_probes": "null",
    "num_samples": "9",
    "output": "projection",
    "pool": f"{__name__}.read",
    "precision": "float64",
    "read_batch": f"{__name__}.read",
    "reference": "[[[1, 2], [3, 4]], [[1, 2], [3, 5]]]",
    "ridge_lamb": "0.1",
    "score_loader": LOADER,
    "seed": "3",
    "spectra_layers": "[torch.nn.Linear]",
    "start_step": "4",
    "strict": "true",
    "temperature": "[0.1, null]",
    "top_k": "[2]",
    "val_loader": "clean",
    "views_loader": LOADER,
}


@pytest.fixture(scope="module")
def parser():
    register_tensors()
    set_loader(fit._YAML_MODE, fit._load_with_short_names, (yaml.YAMLError,))
    found = ArgumentParser(exit_on_error=False, parser_mode=fit._YAML_MODE)
    found.add_subclass_arguments(Callback, "callback")
    return found


def built(parser, owner, given):
    """The callback of a file and the arguments kept of it, and both once more from what was kept."""
    arguments = {name: yaml.safe_load(text) for name, text in given.items()}
    text = yaml.safe_dump({"class_path": owner.__name__, "init_args": arguments})
    settings = fit._load_with_short_names(text)
    for _ in range(2):
        config = parser.parse_object({"callback": deepcopy(settings)})  # it writes into lists
        settings = plain_settings(yaml.safe_load(parser.dump(config, skip_none=False)), config)["callback"]
        yield parser.instantiate_classes(config)["callback"], settings["init_args"]


def is_kept(given, kept) -> bool:
    """Whether what was kept says what was given, defaults added."""
    if isinstance(given, dict):
        return all(is_kept(value, kept[key]) for key, value in given.items() if key != "class_path")
    return kept == given


@pytest.mark.parametrize("owner", CLASSES, ids=lambda owner: owner.__name__)
def test_every_argument(owner, parser):
    names = list(dict.fromkeys(_parameters(owner)))
    # both periods together are refused, so that one of them takes its turn alone
    for left_out in {"every_n_epochs", "every_n_steps"}:
        given = {name: GIVEN[name] for name in names if name != left_out}
        (first, kept), (second, again) = built(parser, owner, given)
        assert type(first) is type(second) is owner
        assert kept == again
        wrong = [name for name in given if not is_kept(yaml.safe_load(given[name]), kept[name])]
        assert not wrong


def test_what_arrives(parser):
    for callback, _ in built(parser, callbacks.CovarianceOperators, {"loss": GIVEN["loss"], "output": "0"}):
        assert isinstance(callback._loss, losses.InfoNCELoss)
        assert callback._loss.temperature == 0.2
        assert callback._output == 0
    for callback, _ in built(
        parser, callbacks.LinearProbe, {"fit_loader": LOADER, "output": f"{__name__}.read"}
    ):
        assert [len(batch[1]) for batch in callback._fit_loader] == [2, 2, 2]
    names = {"layers": GIVEN["layers"], "dictionary": GIVEN["dictionary"]}
    for callback, _ in built(parser, callbacks.FeatureNormMonitor, names):
        assert torch.equal(callback._dictionary, torch.eye(2))
    names = {"layers": GIVEN["layers"], "reference": GIVEN["reference"]}
    for callback, _ in built(parser, callbacks.OrthogonalityMonitor, names):
        assert callback._overlay.images.tolist() == [[1, 2], [3, 4], [1, 2], [3, 5]]


def test_tensors_in_files():
    torch.save(torch.ones(2, 3), "a.pt")
    np.save("a.npy", np.ones((2, 3)))
    torch.save([1], "list.pt")
    assert tensor_of("a.pt").shape == tensor_of("a.npy").shape == (2, 3)
    with pytest.raises(
        InputError, match=r"Expected a tensor in the file `list\.pt`, found list; save the tensor alone"
    ):
        tensor_of("list.pt")
    with pytest.raises(InputError, match=r"Expected a tensor in the file `no\.npy`, found: \[Errno 2\]"):
        tensor_of(str(Path("no.npy")))
    with pytest.raises(
        InputError, match=r"Expected a tensor as nested lists of numbers or the path of a file, got '\[\[1, 2"
    ):
        tensor_of([[1, 2], [3]])
