import pytest
import torch
import torchvision

from lightning_ssl_theory.networks import ResNet


def test_imagenet_stem_is_torchvisions_network_without_the_classifier():
    network, reference = ResNet("resnet18", stem="imagenet"), torchvision.models.resnet18(weights=None)
    reference.fc = torch.nn.Identity()
    reference.load_state_dict(network.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network.eval()(images), reference.eval()(images))


def test_cifar_stem_keeps_the_resolution():
    network = ResNet("resnet18")
    assert network.conv1.weight.shape == (64, 3, 3, 3)
    stem = torch.nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    assert stem(torch.zeros(2, 3, 32, 32)).shape == (2, 64, 32, 32)


def test_new_first_layers_are_initialised_as_torchvisions():
    # N(0, 2 / (64 k^2)); 64 * c * k^2 draws have a standard deviation known to 1/sqrt(2 n)
    for stem, channels, kernel in (("cifar", 3, 3), ("imagenet", 8, 7)):
        weight = ResNet("resnet18", stem=stem, in_channels=channels).conv1.weight
        expected = (2 / (64 * kernel**2)) ** 0.5
        assert abs(weight.std().item() / expected - 1) < 5 / (2 * weight.numel()) ** 0.5


@pytest.mark.parametrize("name", ["layer1", "layer2", "layer3", "layer4"])
def test_stages_have_torchvisions_names(name):
    assert name in dict(ResNet("resnet18").named_modules())


@pytest.mark.parametrize(("name", "num_features"), [("resnet18", 512), ("resnet50", 2048)])
def test_features(name, num_features):
    network = ResNet(name, in_channels=1)
    assert network.num_features == num_features
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, num_features)


def test_rejected_settings():
    with pytest.raises(
        ValueError, match=r"Expected `name` to be one of resnet18, .*, got 'resnet'; choose one"
    ):
        ResNet("resnet")
    with pytest.raises(ValueError, match="Expected `stem` to be one of cifar, imagenet, got 'small'"):
        ResNet(stem="small")
    with pytest.raises(
        ValueError, match="Expected `in_channels` of at least 1, got 0; pass the images' number"
    ):
        ResNet(in_channels=0)
