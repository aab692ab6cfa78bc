import pytest
import torch

from lightning_ssl_theory.metrics import FeatureNorms
from lightning_ssl_theory.metrics import sum_metric as module


def test_states_and_dictionary_keep_float64_in_a_cast_module() -> None:
    holder = torch.nn.Module()
    holder.metric = FeatureNorms(torch.eye(2))
    holder.to(torch.bfloat16).half().float()
    holder.metric.update(torch.tensor([[3.0, 4.0]]))
    assert holder.metric.square_sum.dtype == torch.float64
    assert holder.metric.dictionary.dtype == torch.float64
    assert not holder.state_dict()


def test_states_stay_off_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    # No such device here: let "meta" stand for it.
    real = module.device_with_float64
    monkeypatch.setattr(
        module,
        "device_with_float64",
        lambda device: torch.device("cpu") if device.type == "meta" else real(device),
    )
    assert real(torch.device("mps")).type == "cpu"
    metric = FeatureNorms(torch.eye(2)).to("meta")
    metric.update(torch.tensor([[3.0, 4.0]]))
    metric.reset()
    metric.update(torch.tensor([[3.0, 4.0]]))
    assert float(metric.compute().mean_norm) == 5.0
    assert metric.square_sum.device.type == "cpu"
