"""CovarianceOperators logs what the dense operators of the untrained network say."""

from collections import OrderedDict
from copy import deepcopy

import pytest
import torch
from helpers.dense_operator import augmentation_loop, connections_loop, plugin_loop, unbiased_loop
from helpers.toy_ssl import ToySSL, Views, fit, toy_images
from torch import nn
from torch.testing import assert_close
from torch.utils.data import DataLoader

from lightning_ssl_theory.callbacks import CovarianceOperators
from lightning_ssl_theory.losses import InfoNCELoss, SimpleContrastiveLoss

LAYERS = ["backbone.conv", "projector.hidden", "projector.out"]
ESTIMATES = ["trace", "signal_ratio", "growth_rate", "frobenius_norm"]
ERRORS = [f"{name}_{kind}" for name in ESTIMATES for kind in ("error95", "stderr")]
SCALARS = [*ESTIMATES, *ERRORS, "residual", "cosine"]
NUM_SAMPLES = 6


def layers_of(values):
    """The layers of keys `covariance/<layer>/<quantity>`."""
    return {key.split("/")[1] for key in values if key.count("/") == 2}


def first_look(callback, module=None, **arguments):
    """What is logged of the untrained network, by key, and the views (N, A, *input) that it saw."""
    dataset = Views(*toy_images(NUM_SAMPLES))
    train = DataLoader(dataset, NUM_SAMPLES)
    _, logger = fit(module or ToySSL(), [callback], train=train, max_steps=1, **arguments)
    step, values = logger.looks("covariance/")[0]
    assert step == 0
    return values, torch.stack(dataset.views, dim=1).double()


def held_network(views):
    """The untrained network in float64, dropout off, BatchNorm with the batch's statistics as constants."""
    module = ToySSL()
    network = nn.Sequential(OrderedDict(backbone=module.backbone, projector=module.projector)).double()
    inputs = views.flatten(0, 1)
    network.eval()
    for name in ("backbone.norm", "projector.norm"):
        norm, seen = network.get_submodule(name), []
        handle = norm.register_forward_hook(lambda _, args, __, seen=seen: seen.append(args[0].detach()))
        network(inputs)
        handle.remove()
        rows = seen[0].transpose(0, 1).flatten(1)  # (channels, samples and positions)
        norm.running_mean.copy_(rows.mean(1))
        norm.running_var.copy_(rows.var(1, unbiased=False))
    return network


def true_gradients(network, views, loss):
    outputs = network(views.flatten(0, 1)).unflatten(0, views.shape[:2])
    weights = [network.get_submodule(name).weight for name in LAYERS]
    return dict(zip(LAYERS, torch.autograd.grad(loss(outputs[:, 0], outputs[:, 1]), weights), strict=True))


class Normalize(nn.Module):
    def forward(self, outputs):
        return outputs / outputs.norm(dim=1, keepdim=True)


def info_nce_weights(means, temperature):
    """xi_ij = N (p_ij + p_ji) / (2 temperature), p the softmax over the positive and both views of all others."""
    num_samples = len(means)
    p = torch.zeros(num_samples, num_samples, dtype=means.dtype)
    for i in range(num_samples):
        scores = [
            torch.exp(-(means[i] - means[j]).square().sum() / 2 / temperature) for j in range(num_samples)
        ]
        total = 1 + 2 * (sum(scores) - scores[i])
        for j in range(num_samples):
            p[i, j] = 0.0 if i == j else 2 * scores[j] / total
    return num_samples * (p + p.T) / 2 / temperature


def predicted_gradient(k, outputs, xi):
    """-2 N^-2 sum_ij Lap_ij K_i f_j over means of views; for i = j over pairs of different views."""
    num_samples, num_views = outputs.shape[:2]
    total = torch.zeros(k.shape[2], dtype=k.dtype)
    for i in range(num_samples):
        for j in range(num_samples):
            if i != j:
                total -= xi[i, j] * k[i].mean(0) @ outputs[j].mean(0)
                continue
            pairs = [k[i, a] @ outputs[i, b] for a in range(num_views) for b in range(num_views) if a != b]
            total += (xi[i].sum() - xi[i, i]) * sum(pairs) / len(pairs)
    return -2 * total / num_samples**2


@pytest.mark.parametrize("estimator", ["plugin", "unbiased"])
def test_values_of_every_layer(estimator):
    callback = CovarianceOperators(
        num_probes=None,
        estimator=estimator,
        precision="float64",
        spectra_layers=["projector.out"],
        num_eigenvalues=3,  # at a last layer each eigenvalue comes once for each of the 3 outputs
    )
    values, views = first_look(callback)
    network = held_network(views)
    spectrum = [
        f"covariance/projector.out/{key}"
        for key in ("eigenvalue_1", "eigenvalue_2", "eigenvalue_3", "effective_rank", "weight_cosine")
    ]
    expected = {f"covariance/{name}/{key}" for name in LAYERS for key in SCALARS} | set(spectrum)
    assert set(values) == expected | {"covariance/weight_share"}
    sizes = {name: value.numel() for name, value in network.named_parameters()}
    share = sum(sizes[f"{name}.weight"] for name in LAYERS) / sum(sizes.values())
    assert values["covariance/weight_share"] == pytest.approx(share)
    for name in LAYERS:
        k = connections_loop(network, views, name)
        signal = unbiased_loop(k) if estimator == "unbiased" else plugin_loop(k)
        augmentation = augmentation_loop(k, unbiased=estimator == "unbiased")
        weight = network.get_submodule(name).weight.detach().reshape(-1)
        expected = {
            "trace": signal.trace(),
            "trace_error95": torch.zeros(()),
            "signal_ratio": signal.trace() / (signal.trace() + augmentation.trace()),
            "growth_rate": weight @ signal @ weight / (weight @ weight),
        }
        found = {key: values[f"covariance/{name}/{key}"] for key in expected}
        assert found == pytest.approx({key: float(value) for key, value in expected.items()}, rel=1e-9)
    eigenvalues, vectors = torch.linalg.eigh(plugin_loop(connections_loop(network, views, "projector.out")))
    eigenvalues, weight = eigenvalues.flip(0), network.projector.out.weight.detach().reshape(-1)
    shares = (eigenvalues / eigenvalues.sum()).clamp(min=1e-300)
    cosine = (vectors[:, -3:].T @ weight).norm() / weight.norm()
    expected = [*eigenvalues[:3], (-shares * shares.log()).sum().exp(), cosine]
    assert [values[key] for key in spectrum] == pytest.approx([float(e) for e in expected], rel=1e-9)


def test_residual_compares_with_the_gradient_of_the_held_network():
    # L_simp has the gradient -2 Cov(K, f), in biased networks too: the residual is rounding. Of another network's
    # gradient it would not be.
    callback = CovarianceOperators(precision="float64", loss=SimpleContrastiveLoss(beta=0.5))
    values, views = first_look(callback)
    for name in LAYERS:
        assert values[f"covariance/{name}/residual"] < 1e-10
        assert values[f"covariance/{name}/cosine"] == pytest.approx(1.0, abs=1e-10)

    values, views = first_look(CovarianceOperators(precision="float64"))  # the module's InfoNCE
    network = nn.Sequential(held_network(views), Normalize())
    gradients = true_gradients(network[0], views, InfoNCELoss())
    outputs = network(views.flatten(0, 1)).detach().unflatten(0, views.shape[:2])
    xi = info_nce_weights(outputs.mean(1), temperature=0.5)
    for name in LAYERS:
        gradient = gradients[name].reshape(-1)
        predicted = predicted_gradient(connections_loop(network, views, f"0.{name}"), outputs, xi)
        residual = (gradient - predicted).norm() / gradient.norm()
        assert 0.01 < residual < 1
        assert values[f"covariance/{name}/residual"] == pytest.approx(float(residual), rel=1e-8)
        cosine = torch.cosine_similarity(gradient, predicted, dim=0)
        assert values[f"covariance/{name}/cosine"] == pytest.approx(float(cosine), rel=1e-8)


def test_random_probes_are_near_and_say_how_near():
    exact, _ = first_look(CovarianceOperators(num_probes=None))
    few, _ = first_look(CovarianceOperators(num_probes=64))
    for name in LAYERS:
        stderr = few[f"covariance/{name}/trace_error95"] / 2
        assert few[f"covariance/{name}/trace_stderr"] == pytest.approx(stderr)  # its name in 0.1
        # K u = u h^T in the last layer, whose length no choice of signs in u changes
        assert (
            (stderr < 1e-6)
            if name == "projector.out"
            else (0 < stderr < 0.5 * exact[f"covariance/{name}/trace"])
        )
        error = few[f"covariance/{name}/trace"] - exact[f"covariance/{name}/trace"]
        assert abs(error) < 4 * stderr + 1e-5 * exact[f"covariance/{name}/trace"]
    again, _ = first_look(CovarianceOperators(num_probes=64))
    other, _ = first_look(CovarianceOperators(num_probes=64, seed=1))
    assert again == few
    assert other != few


def test_layers_num_samples_and_output():
    values, views = first_look(
        CovarianceOperators("projector.hidden", num_probes=None, num_samples=4, precision="float64")
    )
    assert layers_of(values) == {"projector.hidden"}
    network = held_network(views[:4])
    k = connections_loop(network, views[:4], "projector.hidden")
    assert values["covariance/projector.hidden/trace"] == pytest.approx(
        float(plugin_loop(k).trace()), rel=1e-9
    )

    module = ToySSL()
    callback = CovarianceOperators(
        ["backbone.conv"], output=module.backbone, num_probes=None, precision="float64"
    )
    values, views = first_look(callback, module)
    k = connections_loop(held_network(views).backbone, views, "conv")
    assert values["covariance/backbone.conv/trace"] == pytest.approx(float(plugin_loop(k).trace()), rel=1e-9)


def test_without_a_pairwise_loss_there_is_no_prediction():
    module = ToySSL()
    module.loss = nn.CosineEmbeddingLoss()
    module.training_step = lambda batch, batch_idx: module.embed(batch[0][0]).square().mean()
    values, _ = first_look(CovarianceOperators(["projector.out"]), module)
    assert {key.split("/")[-1] for key in values} == {*SCALARS, "weight_share"} - {"residual", "cosine"}


def test_three_views_are_seen():
    class ThreeViews(Views):
        def __getitem__(self, index):
            views, label = super().__getitem__(index)
            return [*views, views[0] + views[1]], label

    dataset = ThreeViews(*toy_images(NUM_SAMPLES))
    callback = CovarianceOperators(num_probes=None, precision="float64", every_n_steps=1)
    _, logger = fit(ToySSL(), [callback], train=DataLoader(dataset, NUM_SAMPLES), max_steps=1)
    views = torch.stack([torch.stack(dataset[i][0]) for i in range(NUM_SAMPLES)]).double()
    k = connections_loop(held_network(views), views, "projector.out")
    found = logger.looks("covariance/")[0][1]["covariance/projector.out/trace"]
    assert_close(torch.tensor(found).double(), plugin_loop(k).trace(), rtol=1e-6, atol=0)


def test_layers_by_pattern_and_type_and_normalisation():
    values, views = first_look(
        CovarianceOperators(["*.norm", nn.Conv2d], num_probes=None, precision="float64")
    )
    assert layers_of(values) == {"backbone.norm", "projector.norm", "backbone.conv"}
    network = held_network(views)
    for name in ("backbone.norm", "projector.norm"):
        expected = plugin_loop(connections_loop(network, views, name)).trace()
        assert values[f"covariance/{name}/trace"] == pytest.approx(float(expected), rel=1e-9)
    with pytest.raises(ValueError, match=r"Expected the pattern 'head\.\*' to choose a layer of ToySSL"):
        first_look(CovarianceOperators("head.*"))


def test_a_small_memory_budget_changes_nothing_and_a_tiny_one_is_refused():
    whole, _ = first_look(CovarianceOperators(precision="float64"))
    chunks, _ = first_look(CovarianceOperators(precision="float64", memory_budget=100_000))
    assert chunks == pytest.approx(whole, rel=1e-9, abs=1e-12)
    with pytest.raises(ValueError, match=r"Expected a `memory_budget` that holds one sample, [0-9]+ bytes"):
        first_look(CovarianceOperators(memory_budget=100, strict=True))


def test_what_one_probe_cannot_tell_is_not_logged():
    values, _ = first_look(CovarianceOperators(["backbone.conv"], num_probes=1))
    assert {key.split("/")[-1] for key in values} == {
        "weight_share",
        "trace",
        "signal_ratio",
        "growth_rate",
        "residual",
        "cosine",
    }


def test_eigenvectors_are_pictures_and_part_of_the_checkpoint():
    callback = CovarianceOperators(
        "backbone.conv", spectra_layers=["backbone.conv", "projector.out"], num_eigenvalues=2
    )
    first_look(callback)
    pictures = callback.pictures()
    spectra = ["backbone.conv/spectrum", "projector.out/spectrum"]
    assert list(pictures) == [*spectra, "backbone.conv/eigenvectors"]  # the projector sees no pixels
    assert pictures[spectra[0]].values == tuple(callback.spectra["backbone.conv"].eigenvalues.tolist())
    picture = pictures["backbone.conv/eigenvectors"]
    assert picture.shape == (3, 1 + 2 * 4, 1 + 4 * 4)  # two rows of four filters of 3 x 3, with a frame
    assert picture.min() == 0 or picture.max() == 1
    kept = callback.state_dict()["eigenvectors"]["backbone.conv"]
    assert kept.shape == (2, 4, 1, 3, 3)
    assert_close(kept.flatten(1).norm(dim=1), torch.ones(2))


def test_the_residual_of_the_simple_loss_stays_at_rounding_while_a_network_trains():
    class Plain(ToySSL):
        """A bias-free MLP, trained on the very views that a look sees."""

        def __init__(self):
            super().__init__(lr=0.01)
            torch.manual_seed(0)
            widths = ((16, 12), (12, 8), (8, 4))
            layers = [layer for sizes in widths for layer in (nn.Linear(*sizes, bias=False), nn.ReLU())]
            self.backbone, self.projector = nn.Sequential(nn.Flatten(), *layers[:-1]), nn.Identity()
            self.loss = SimpleContrastiveLoss()

        def training_step(self, batch, batch_idx):
            return self.loss(*map(self.embed, batch[0]))

    callback = CovarianceOperators(precision="float64", every_n_steps=5)
    _, logger = fit(
        Plain(), [callback], train=DataLoader(Views(*toy_images(16)), 8), max_steps=30, max_epochs=-1
    )
    looks = logger.looks("covariance/")
    assert [step for step, _ in looks] == list(range(0, 31, 5))
    residuals = [value for _, values in looks for key, value in values.items() if key.endswith("/residual")]
    assert len(residuals) == 3 * 7
    assert max(residuals) < 1e-5
    errors = [
        value for _, values in looks for key, value in values.items() if key.endswith("growth_rate_stderr")
    ]
    assert max(errors) < 1e-9  # K^T w = f: the growth rate needs no probe


def test_oracle_sees_the_whole_batch():
    # The oracle itself: with the statistics of half the batch the traces differ.
    _, views = first_look(CovarianceOperators(["projector.out"]))
    whole, half = held_network(views), held_network(views[:3])
    assert not torch.allclose(whole(views[0]), half(views[0]))
    module = deepcopy(whole)
    module.backbone.norm.momentum = 0.0
    hidden = module.backbone.norm.train()(module.backbone.conv(views.flatten(0, 1)))
    assert_close(hidden, whole.backbone.norm(whole.backbone.conv(views.flatten(0, 1))))
