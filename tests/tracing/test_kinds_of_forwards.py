"""Networks whose forward or holders do what no layer of torch does: nothing of them changes, and the numbers are right."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from helpers.one_look import Kind, check_kind
from helpers.small_networks import draw_views
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint


class Alias(nn.Module):
    """A module under two names, once inside a sequence."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(5, 4)
        self.net = nn.Sequential(self.backbone, nn.Tanh(), nn.Linear(4, 3))
        self.encoder = self.backbone

    def forward(self, x):
        return self.net(x)


class LossHolds(nn.Module):
    """A loss that holds a network that holds it in turn under another name."""

    def __init__(self):
        super().__init__()
        self.loss = nn.Module()
        self.loss.network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        self.head = self.loss.network[2]
        self.backbone = self.loss.network[0]

    def forward(self, x):
        return self.head(self.backbone(x).tanh())


class Tied(nn.Module):
    """One parameter in two layers, and one that is on the path once only."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(5, 5), nn.Linear(5, 5)
        self.decoder.weight = self.encoder.weight
        self.head, self.unused = nn.Linear(5, 3), nn.Linear(5, 3)
        self.unused.weight = self.head.weight

    def forward(self, x):
        return self.head(self.decoder(self.encoder(x).tanh()))


class MovingAverage(nn.Module):
    """A key encoder that follows inside forward, written through `data` and by `copy_`."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(5, 4), nn.Linear(5, 4)
        self.head = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        with torch.no_grad():
            self.key.weight.mul_(0.9).add_(self.query.weight, alpha=0.1)
            self.key.bias.data = self.key.bias.data * 0.5
            self.calls += 1
        return self.head(self.query(x).tanh() * self.key(x))


class UntrainedMovingAverage(nn.Module):
    """A key encoder that is not trained follows with no need for `no_grad`, in each way of writing."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(5, 4), nn.Linear(5, 4).requires_grad_(False)
        self.side, self.head = nn.Linear(5, 4, bias=False).requires_grad_(False), nn.Linear(4, 3)

    def forward(self, x, guard=nullcontext):
        query = self.query.weight.detach()
        with guard():
            self.key.weight.mul_(0.9).add_(query, alpha=0.1)
            self.key.weight[0] = query[1]
            weight = self.key.weight
            weight += 0.1 * query
            self.key.bias += 0.1 * query[:, 0]
            self.side.weight -= 0.1 * query
            torch.lerp(self.side.weight, query, 0.1, out=self.side.weight)
            torch._foreach_mul_([self.side.weight, self.key.bias], 0.9)
        return self.head(self.query(x).tanh() * self.key(x) + self.side(x))

    def guarded(self, x):
        """The same for an oracle that differentiates with respect to what is written to."""
        return self(x, torch.no_grad)


class LateMovingAverage(nn.Module):
    """A frozen key encoder that follows after it has been used, which a graph through it would not allow."""

    def __init__(self):
        super().__init__()
        self.query = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        self.key = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).requires_grad_(False)

    def forward(self, x):
        with torch.no_grad():
            keys = self.key(x)
            for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
                key.lerp_(query, 0.1)
        return self.query(x) * keys.sigmoid()


class AssignedInForward(nn.Module):
    """Sets parameters and buffers of its own anew, by attribute."""

    def __init__(self):
        super().__init__()
        self.query, self.key = nn.Linear(5, 4), nn.Linear(5, 4).requires_grad_(False)
        self.head = nn.Linear(4, 3)
        self.register_buffer("centre", torch.zeros(4))

    def forward(self, x):
        with torch.no_grad():
            self.key.weight = nn.Parameter(
                0.9 * self.key.weight + 0.1 * self.query.weight, requires_grad=False
            )
            self.key.bias += 0.5
            keys = self.key(x)
            self.centre = 0.9 * self.centre + 0.1 * self.query.weight.mean(1)
            self.centre += 0.1
        return self.head(self.query(x).tanh() * keys + self.centre)


class Prototypes(nn.Module):
    """SwAV: prototypes are normalised in place."""

    def __init__(self):
        super().__init__()
        self.stem, self.prototypes = nn.Linear(5, 4), nn.Linear(4, 3, bias=False)

    def forward(self, x):
        with torch.no_grad():
            self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))
        return self.prototypes(F.normalize(self.stem(x), dim=1))


class MaxNorm(nn.Module):
    """An embedding that renormalises the rows that it reads."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 4, max_norm=0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, ids):
        return self.head(self.embed(ids).tanh().mean(1))


class Memory(nn.Module):
    """Plain attributes that forward writes to: a tensor in place, a counter, a list of its own."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 3)
        self.mean = torch.zeros(3)
        self.calls, self.seen = 0, None

    def forward(self, x):
        self.calls += 1
        outputs = self.head(x)
        self.mean = self.mean.to(x)
        self.mean.mul_(0.9).add_(outputs.detach().mean(0), alpha=0.1)
        self.seen = outputs.detach()
        return outputs


class Checkpointed(nn.Module):
    """A part that backward computes again, with BatchNorm and dropout inside."""

    def __init__(self, use_reentrant):
        super().__init__()
        self.use_reentrant = use_reentrant
        self.stem = nn.Linear(5, 6)
        self.block = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Dropout(0.5))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = self.stem(x)
        x = checkpoint(self.block, x, use_reentrant=self.use_reentrant) if x.requires_grad else self.block(x)
        return self.head(x)


class Hooked(nn.Sequential):
    """A user's own hooks: one counts, one changes what comes out, one what goes in."""

    def __init__(self):
        super().__init__(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
        self.counted = []
        self[0].register_forward_hook(lambda _, __, found: 2 * found)
        self[2].register_forward_pre_hook(lambda _, args: (args[0] + 1,))


class Wrapper(nn.Module):
    """Attributes that are not in `__dict__`: read from what is wrapped, and kept beside it in slots."""

    __slots__ = ("calls",)

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(5, 3)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class Teacher(nn.Module):
    """A student on the path and a frozen teacher that runs without a graph."""

    def __init__(self):
        super().__init__()
        self.student, self.teacher = nn.Linear(5, 3), nn.Linear(5, 3)
        self.teacher.requires_grad_(False)

    def forward(self, x):
        with torch.no_grad():
            target = self.teacher(x)
        return self.student(x) * target.sigmoid()


def partly_trained():
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    return model


def parametrised(wrap, **arguments):
    return lambda: nn.Sequential(
        nn.Linear(5, 4), nn.Tanh(), wrap(nn.Linear(4, 4), **arguments), nn.Linear(4, 3)
    )


VIEWS = draw_views((5,), num_samples=4)
IDS = torch.randint(0, 11, (4, 2, 6), generator=torch.Generator().manual_seed(3))
COMPUTED = "does not enter a linear map, a convolution or a normalisation as it is"
UNREACHED = "is not reached by the forward pass"

FORWARDS = [
    pytest.param(Kind(Alias, VIEWS, ("backbone", "net.2")), id="module-under-two-names"),
    pytest.param(Kind(LossHolds, VIEWS, ("loss.network.0", "loss.network.2")), id="loss-holds-the-network"),
    pytest.param(Kind(Tied, VIEWS, ("head",), {"encoder": "sees more than one input"}), id="tied-parameters"),
    pytest.param(Kind(MovingAverage, VIEWS, ("query", "key", "head")), id="moving-average-in-forward"),
    pytest.param(Kind(AssignedInForward, VIEWS, ("query", "head")), id="assigned-in-forward"),
    pytest.param(
        Kind(
            UntrainedMovingAverage,
            VIEWS,
            ("query", "key", "side", "head"),
            features={"key": lambda found: found},
            call=UntrainedMovingAverage.guarded,
        ),
        id="moving-average-with-gradients-on",
    ),
    pytest.param(
        Kind(
            LateMovingAverage,
            VIEWS,
            ("query.0", "query.2"),
            {"key.0": "does not lead", "key.2": "does not lead"},
        ),
        id="moving-average-after-its-use",
    ),
    pytest.param(Kind(Prototypes, VIEWS, ("stem", "prototypes")), id="prototypes-normalised-in-place"),
    pytest.param(Kind(MaxNorm, IDS, ("head",), {"embed": COMPUTED}), id="embedding-max-norm"),
    pytest.param(Kind(Memory, VIEWS, ("head",), is_trained=False), id="plain-attributes"),
    pytest.param(Kind(lambda: Checkpointed(False), VIEWS, ("stem", "block.0", "head")), id="checkpoint"),
    pytest.param(
        Kind(lambda: Checkpointed(True), VIEWS, ("stem", "block.0", "head")), id="checkpoint-reentrant"
    ),
    pytest.param(Kind(Hooked, VIEWS, ("0", "2")), id="user-hooks"),
    pytest.param(Kind(Wrapper, VIEWS, ("inner",)), id="attributes-of-what-is-wrapped"),
    pytest.param(
        Kind(Teacher, VIEWS, ("student",), {"teacher": "does not lead to the output"}),
        id="teacher-without-a-graph",
    ),
    pytest.param(Kind(partly_trained, VIEWS, ("0", "3")), id="parts-that-are-not-trained"),
    pytest.param(
        Kind(
            parametrised(parametrizations.spectral_norm),
            VIEWS,
            ("0", "3"),
            {"2.parametrizations.weight.original": COMPUTED},
        ),
        id="spectral-norm",
    ),
    pytest.param(
        Kind(
            parametrised(parametrizations.weight_norm),
            VIEWS,
            ("0", "3"),
            {f"2.parametrizations.weight.original{i}": COMPUTED for i in (0, 1)},
        ),
        id="weight-norm",
    ),
    pytest.param(
        Kind(
            parametrised(parametrizations.orthogonal),
            VIEWS,
            ("0", "3"),
            {"2.parametrizations.weight.original": COMPUTED},
        ),
        id="orthogonal",
    ),
    pytest.param(
        Kind(parametrised(torch.nn.utils.spectral_norm), VIEWS, ("0", "3"), {"2.weight_orig": COMPUTED}),
        id="spectral-norm-by-a-hook",
    ),
]


@pytest.mark.parametrize("kind", FORWARDS)
def test_a_look(kind):
    check_kind(kind)
