r"""The own time of the Grassmann flow with one output, in which its direction moves by known exponentials.

In :math:`\theta` with :math:`\dot\theta = 2 - u`, :math:`u = \|q\|^2`, the direction of q is that of
:math:`q_0 e^{-2\theta\Lambda}`, and u is known too, so that :math:`t = \int_0^\theta ds/(2 - u(s))`: a quadrature of
one smooth function with values in [1/2, 1]. It is done once, by Chebyshev polynomials on panels that are halved
until the polynomials resolve it; the inverse then costs no further exponential.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import chebyshev

Array = np.ndarray

_DEGREE = 16
_NODES = np.cos(np.pi * np.arange(_DEGREE + 1) / _DEGREE)
_FIT = np.linalg.inv(chebyshev.chebvander(_NODES, _DEGREE)).T  # values at the nodes (., n) to coefficients
_TOLERANCE = 1e-13  # of the last coefficients, beside values of order 1
_MOST_FIRST_PANELS, _MOST_HALVINGS = 256, 30
_BLOCK = 1 << 15  # numbers held at once: they stay in the cache


class Line(NamedTuple):
    """One output in the eigenbasis, in logarithms: exponents beside the lowest, so that they cancel at no time."""

    log_weights: Array
    """log q0_k^2, shape (d,)."""
    heights: Array
    """lambda_k - m >= 0, m the lowest eigenvalue that q0 has a component on, shape (d,)."""
    lowest: float
    """m."""
    log_gap: float
    """log(4 (1 - ||q0||^2)); -inf on the sphere."""

    def log_mass(self, theta: Array) -> Array:
        """Log of sum_k q0_k^2 exp(-4 theta (lambda_k - m)): (n,) to (n,)."""
        weights, rates = torch.from_numpy(self.log_weights), torch.from_numpy(-4 * self.heights)
        found = []
        for part in torch.from_numpy(theta).split(max(1, _BLOCK // len(rates))):
            exponents = torch.addcmul(weights, part[:, None], rates)
            largest = exponents.amax(1)
            # torch's exponential takes a third of the time of numpy's
            found.append(largest + exponents.sub_(largest[:, None]).exp_().sum(1).log())
        return torch.cat(found).numpy()

    def log_square(self, theta: Array, log_mass: Array) -> Array:
        """Log of ||q||^2, from the log mass at the same theta."""
        log_ratio = self.log_gap - 2 * log_mass + 8 * theta * self.lowest
        return np.log(2) - np.logaddexp(0, np.logaddexp(0, log_ratio) / 2)

    def slowness(self, theta: Array) -> Array:
        """The slope dt / dtheta = 1 / (2 - u): (n,) to (n,)."""
        return 1 / (2 - np.exp(self.log_square(theta, self.log_mass(theta))))


class Clock:
    """t as a function of theta up to a largest theta, and its inverse.

    Args:
        line: The problem.
        end: Largest theta, > 0.
    """

    def __init__(self, line: Line, end: float) -> None:
        # over one first panel the fastest exponential changes by e^32, unless there would be too many
        speed = 8 * max(abs(line.lowest), float(line.heights.max()))
        num_panels = int(np.clip(np.ceil(end * speed / 32), 1, _MOST_FIRST_PANELS))
        self._edges, coefficients = _resolved(line.slowness, np.linspace(0, end, num_panels + 1))
        widths = np.diff(self._edges)
        primitive = chebyshev.chebint(coefficients, lbnd=-1, axis=1) * widths[:, None] / 2
        self._primitive, self._slowness = primitive, coefficients
        self._times = np.concatenate([[0.0], np.cumsum(primitive.sum(1))])  # T_k(1) = 1

    def time(self, theta: Array) -> Array:
        """The time t at values of theta in [0, end]."""
        panel = np.clip(np.searchsorted(self._edges, theta, "right") - 1, 0, len(self._primitive) - 1)
        start, width = self._edges[panel], self._edges[panel + 1] - self._edges[panel]
        return self._times[panel] + _values(self._primitive[panel], 2 * (theta - start) / width - 1)

    def theta(self, times: Array) -> Array:
        """Theta at times of at most half the end: Newton's method, whose slope is known and within [1/2, 1]."""
        panel = np.clip(np.searchsorted(self._times, times, "right") - 1, 0, len(self._primitive) - 1)
        width = self._edges[panel + 1] - self._edges[panel]
        rest, x = times - self._times[panel], np.zeros(len(times))
        for _ in range(12):
            error = _values(self._primitive[panel], x) - rest
            x = np.clip(x - error / (_values(self._slowness[panel], x) * width / 2), -1, 1)
        return self._edges[panel] + (x + 1) * width / 2


def _values(coefficients: Array, x: Array) -> Array:
    return (chebyshev.chebvander(x, coefficients.shape[1] - 1) * coefficients).sum(1)


# Panels on which polynomials of degree 16 give a function with values of order 1 to rounding, and the polynomials.
def _resolved(function: Callable[[Array], Array], edges: Array) -> tuple[Array, Array]:
    left, right = edges[:-1], edges[1:]
    starts, done = [left[:0]], [np.empty((0, _DEGREE + 1))]
    for halving in range(_MOST_HALVINGS + 1):
        nodes = left[:, None] + (right - left)[:, None] * (_NODES + 1) / 2
        coefficients = function(nodes.ravel()).reshape(nodes.shape) @ _FIT
        is_done = (np.abs(coefficients[:, -3:]).max(1) < _TOLERANCE) | (halving == _MOST_HALVINGS)
        starts.append(left[is_done])
        done.append(coefficients[is_done])
        left, right = left[~is_done], right[~is_done]
        middle = (left + right) / 2
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        if not len(left):
            break
    start = np.concatenate(starts)
    order = start.argsort()
    return np.append(start[order], edges[-1]), np.concatenate(done)[order]
