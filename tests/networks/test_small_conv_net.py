import pytest
import torch

from lightning_ssl_theory.networks import SmallConvNet


def convolution(image, kernels):
    """3 x 3 with zero padding, no bias: nested lists [channel][row][column]."""
    height, width = len(image[0]), len(image[0][0])

    def pixel(channel, row, column):
        return image[channel][row][column] if 0 <= row < height and 0 <= column < width else 0.0

    return [
        [
            [
                sum(
                    kernel[c][i][j] * pixel(c, row + i - 1, column + j - 1)
                    for c in range(len(image))
                    for i in range(3)
                    for j in range(3)
                )
                for column in range(width)
            ]
            for row in range(height)
        ]
        for kernel in kernels
    ]


def rectified(image):
    return [[[max(value, 0.0) for value in row] for row in channel] for channel in image]


def halved(image):
    return [
        [
            [
                sum(channel[2 * r + i][2 * c + j] for i in (0, 1) for j in (0, 1)) / 4
                for c in range(len(channel[0]) // 2)
            ]
            for r in range(len(channel) // 2)
        ]
        for channel in image
    ]


def averaged(image):
    return [sum(sum(row) for row in channel) / (len(channel) * len(channel[0])) for channel in image]


def test_oracle_by_hand():
    ones = [[[1.0] * 3] * 3]
    assert convolution([[[1.0, 2.0], [3.0, 4.0]]], [ones]) == [[[10.0, 10.0], [10.0, 10.0]]]
    assert halved([[[1.0, 2.0], [3.0, 4.0]]]) == [[[2.5]]]
    assert averaged([[[1.0, 2.0], [3.0, 4.0]]]) == [2.5]
    assert rectified([[[-1.0, 2.0]]]) == [[[0.0, 2.0]]]


def test_matches_loop():
    network = SmallConvNet(2, [3, 4], bias=False).double()
    images = torch.randn(2, 2, 4, 6, dtype=torch.float64)
    for image, features in zip(images, network(images), strict=True):
        hidden = halved(rectified(convolution(image.tolist(), network.conv_1.weight.tolist())))
        expected = averaged(rectified(convolution(hidden, network.conv_2.weight.tolist())))
        torch.testing.assert_close(features, torch.tensor(expected, dtype=torch.float64))


def test_layers_have_the_documented_names():
    names = [name for name, _ in SmallConvNet(1, [4, 4], batch_norm=True).named_children()]
    first = ["conv_1", "norm_1", "activation_1", "pool_1"]
    assert names == [*first, "conv_2", "norm_2", "activation_2", "global_pool", "flatten"]


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_without_bias_it_is_homogeneous_in_every_layer(activation):
    network = SmallConvNet(1, [4, 5, 6], bias=False, activation=activation).double()
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    features = network(images)
    for layer in (network.conv_1, network.conv_2, network.conv_3):
        with torch.no_grad():
            layer.weight *= 2
            torch.testing.assert_close(network(images), 2 * features)
            layer.weight /= 2


def test_features():
    network = SmallConvNet(3, [4, 5])
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    assert network.num_features == 5


@pytest.mark.parametrize(("in_channels", "widths"), [(0, [3]), (1, []), (1, [3, 0])])
def test_rejects_sizes(in_channels, widths):
    with pytest.raises(ValueError, match=r"Expected `(in_channels|widths)` of at least 1( elements)?, got"):
        SmallConvNet(in_channels, widths)
