"""The diagnostics attach unmodified to LightningModules and batches that are not ours."""

import copy

import pytest
import torch
from helpers.toy_ssl import clean_loader, fit, toy_images
from lightning.pytorch import LightningModule
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_ssl_theory.callbacks import (
    CollapseMonitor,
    CovarianceOperators,
    FeatureNormMonitor,
    LinearProbe,
    NeuronSelectivity,
)
from lightning_ssl_theory.losses import InfoNCELoss
from lightning_ssl_theory.operators import covariance_scalars

NUM_IMAGES, BATCH = 12, 6


def four_diagnostics(backbone, conv, linear, fit_loader):
    return [
        CovarianceOperators([conv, linear], loss=InfoNCELoss(temperature=0.5), every_n_steps=1),
        NeuronSelectivity([backbone], num_classes=3),
        FeatureNormMonitor([backbone, conv]),
        LinearProbe(backbone, num_classes=3, fit_loader=fit_loader, few_labels=[2]),
    ]


def lightly_module():
    """As lightly's own example has it, with a smaller body."""
    loss = pytest.importorskip("lightly.loss")
    heads = pytest.importorskip("lightly.models.modules")

    class SimCLR(LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(
                nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
            )
            self.projection_head = heads.SimCLRProjectionHead(8, 8, 4)
            self.criterion = loss.NTXentLoss(temperature=0.5)

        def forward(self, x):
            return self.projection_head(self.backbone(x).flatten(start_dim=1))

        def training_step(self, batch, batch_idx):
            (x0, x1), _, _ = batch
            return self.criterion(self(x0), self(x1))

        def validation_step(self, batch, batch_idx):
            self(batch[0])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.06)

    return SimCLR()


class LightlyImages(Dataset):
    """Items (image, label, file name), images of three classes of colour."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return NUM_IMAGES

    def __getitem__(self, index):
        from torchvision.transforms.functional import to_pil_image

        colour = nn.functional.one_hot(torch.tensor(index % 3), 3).float()[:, None, None]
        noise = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(index))
        return self.transform(to_pil_image(0.5 * colour + 0.5 * noise)), index % 3, f"{index}.png"


def test_lightly():
    module = lightly_module()
    transforms = pytest.importorskip("lightly.transforms")
    from torchvision.transforms.functional import to_tensor

    train = DataLoader(LightlyImages(transforms.SimCLRTransform(input_size=16)), BATCH, shuffle=True)
    clean = DataLoader(LightlyImages(to_tensor), BATCH)
    diagnostics = four_diagnostics("backbone", "backbone.0", "projection_head.layers.0", clean)
    _, logger = fit(module, diagnostics, train=train, val=clean)
    for section, layer, key in (
        ("covariance", "backbone.0", "residual"),
        ("covariance", "projection_head.layers.0", "trace"),
        ("selectivity", "backbone", "selective_share"),
        ("feature_norms", "backbone", "firing_rate"),
        ("probe", "backbone", "logistic_top1_2_labels"),
    ):
        looks = logger.looks(f"{section}/{layer}/{key}")
        assert len(looks) == (3 if section == "covariance" else 1)
        assert all(values[f"{section}/{layer}/{key}"] >= 0 for _, values in looks)
    assert logger.looks("probe/")[0][1]["probe/backbone/ridge_top1"] == 1.0  # colours are easily told apart


def test_our_loss_stands_for_lightlys():
    """The residual is that of lightly's own gradient, which ours equals."""
    module = lightly_module()
    views = torch.rand(BATCH, 2, 3, 16, 16)

    class Lightlys(InfoNCELoss):
        def forward(self, z1, z2):
            return module.criterion(z1, z2)

    ours, theirs = (
        covariance_scalars(module, views, ["backbone.0"], loss=loss(temperature=0.5))["backbone.0"]
        for loss in (InfoNCELoss, Lightlys)
    )
    assert float(ours.residual) == pytest.approx(float(theirs.residual), rel=1e-4)
    assert 0.01 < ours.residual < 1


class Plain(LightningModule):
    """One view at a time, whatever the batch is called; neither embed nor backbone nor loss."""

    def __init__(self, read):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
        self.top = nn.Linear(12, 4)
        self.read = read

    def forward(self, images):
        return self.top(self.body(images))

    def training_step(self, batch, batch_idx):
        first, second = (self(view) for view in self.read(batch))
        return (first - second).square().mean() - first.var(0).mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


IMAGES, LABELS = toy_images(NUM_IMAGES)
FORMATS = {
    "views-labels": (lambda i: ([IMAGES[i], -IMAGES[i]], LABELS[i]), lambda batch: batch[0]),
    "lightly": (lambda i: ([IMAGES[i], -IMAGES[i]], LABELS[i], f"{i}.png"), lambda batch: batch[0]),
    "solo-learn": (lambda i: (i, [IMAGES[i], -IMAGES[i]], LABELS[i]), lambda batch: batch[1]),
    "views-only": (lambda i: [IMAGES[i], -IMAGES[i]], lambda batch: batch),
    "dictionary": (
        lambda i: {"views": [IMAGES[i], -IMAGES[i]], "label": LABELS[i]},
        lambda batch: batch["views"],
    ),
    "dictionaries": (
        lambda i: {"views": [{"image": IMAGES[i]}, {"image": -IMAGES[i]}], "label": LABELS[i]},
        lambda batch: [view["image"] for view in batch["views"]],
    ),
}


class Items(Dataset):
    def __init__(self, item):
        self.item = item

    def __len__(self):
        return NUM_IMAGES

    def __getitem__(self, index):
        return self.item(index)


def plain_values(name, clean):
    """All values of one epoch on the same images, in one format."""
    item, read = FORMATS[name]
    torch.manual_seed(0)
    diagnostics = four_diagnostics("body", "body.0", "top", clean_loader(12, seed=4))
    _, logger = fit(Plain(read), diagnostics, train=DataLoader(Items(item), BATCH), val=clean)
    return [
        (step, {k: v for k, v in row.items() if not k.startswith("overhead/")}) for step, row in logger.rows
    ]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "views-labels"])
def test_every_format_gives_the_same_values(name):
    tuples = DataLoader(TensorDataset(IMAGES, LABELS), BATCH)
    dictionaries = DataLoader(Items(lambda i: {"image": IMAGES[i], "label": LABELS[i]}), BATCH)
    expected = plain_values("views-labels", tuples)
    assert len(expected) == 3 + 3
    assert plain_values(name, dictionaries) == expected


def test_frozen_copied_and_compiled_networks():
    class Variant(Plain):
        def __init__(self, change):
            super().__init__(lambda batch: batch[0])
            change(self)

    def freeze(module):
        module.body.requires_grad_(False)
        module.body[1].eval()

    def copy_body(module):
        module.copied = copy.deepcopy(module.body)  # a momentum encoder, never reached

    train = DataLoader(Items(FORMATS["views-labels"][0]), BATCH)
    for change in (freeze, copy_body, lambda module: module.compile(backend="eager")):
        _, logger = fit(
            Variant(change), [CovarianceOperators(every_n_steps=1), CollapseMonitor()], train=train
        )
        layers = {key.split("/")[1] for key in logger.looks("covariance/")[0][1] if key.count("/") == 2}
        assert layers == {"body.0", "top"}
        assert logger.looks("collapse/")
