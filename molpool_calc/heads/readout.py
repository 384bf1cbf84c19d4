"""From atom features to one number for each system: before → pooling → after."""

from collections.abc import Mapping
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from molpool_calc.interfaces import Pooling, Segments, WeightedPooling
from molpool_calc.networks.layers import ACTIVATIONS, Activation, choose, dense
from molpool_calc.poolings import POOLINGS

Design = Literal["atomwise", "embedding"]
PoolingChoice = str | Mapping[str, Any]


def make_pooling(choice: PoolingChoice, n_in: int, n_out: int) -> Pooling:
    """Return a pooling by name, or by a table of ``kind`` and its options.

    Args:
        choice: e.g. ``"sum"`` or ``{"kind": "attention", "n_heads": 4}``.
        n_in: width of the features.
        n_out: width of the pooled rows.

    Raises:
        ValueError: the name is not in the table of poolings, or an option is wrong.
    """
    options = {"kind": choice} if isinstance(choice, str) else dict(choice)
    kind = options.pop("kind", None)
    if kind not in POOLINGS:
        raise ValueError(
            f"pooling {kind!r} is unknown; choose one of {', '.join(POOLINGS)}"
        )
    try:
        pooling: Pooling = POOLINGS[kind](n_in, n_out, **options)
    except TypeError as error:
        raise ValueError(f"pooling {kind}: {error}") from error
    return pooling


class Layers(nn.Module):
    """Dense layers with an activation between them; Xavier weights, zero biases."""

    def __init__(self, widths: list[int], activation: Activation) -> None:
        super().__init__()
        self.activation = choose(ACTIVATIONS, activation, "activation")
        names = ("first", "second", "third", "fourth", "fifth", "sixth")
        if not 1 < len(widths) <= len(names) + 1:
            raise ValueError(
                f"{len(widths) - 1} layers were asked for; give 1 to {len(names)}"
            )
        self.names = names[: len(widths) - 1]
        for name, n_in, n_out in zip(self.names, widths, widths[1:], strict=False):
            self.add_module(name, dense(n_in, n_out))

    @property
    def last(self) -> nn.Linear:
        """The output layer."""
        layer = self.get_submodule(self.names[-1])
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Float[Tensor, "items n_in"]) -> Float[Tensor, "items n_out"]:
        """Apply all layers to the last axis."""
        for name in self.names[:-1]:
            x = self.activation(self.get_submodule(name)(x))
        out: Tensor = self.last(x)
        return out


class Readout(nn.Module):
    """One number y for each system, of one of two designs.

    ``"atomwise"``: y = pool_i(MLP(x_i)), atomic numbers are pooled; a learned pooling
    maps the features to a number itself. With a sum, y is extensive.
    ``"embedding"``: y = MLP(pool_i(x_i)), features are pooled, as in Buterez et al.
    (Commun. Chem. 2023). Not extensive with any pooling.

    Args:
        n_features: width of the atom features.
        n_hidden: width of the hidden layers; by default half of ``n_features``. 0
            stands for no network: the one feature is the atomic number itself.
        n_layers: dense layers of the network.
        pooling: name, or a table of ``kind`` and the options of the pooling.
        design: see above; by default ``"embedding"`` for attention, else
            ``"atomwise"``.
        activation: of the hidden layers.

    Raises:
        ValueError: an unknown pooling, option or design, or a network of no width.
    """

    before: nn.Module
    pooling: Pooling
    after: nn.Module

    def __init__(
        self,
        *,
        n_features: int,
        n_hidden: int | None = None,
        n_layers: int = 2,
        pooling: PoolingChoice = "sum",
        design: Design | None = None,
        activation: Activation = "silu",
    ) -> None:
        super().__init__()
        hidden = max(n_features // 2, 1) if n_hidden is None else n_hidden
        widths = [n_features, *[hidden] * (n_layers - 1), 1]
        chosen = design or _usual_design(pooling)
        if chosen not in {"atomwise", "embedding"}:
            raise ValueError(
                f"design {chosen!r} is unknown; give atomwise or embedding"
            )
        self.before, self.after = nn.Identity(), nn.Identity()
        if chosen == "embedding":
            self.pooling = make_pooling(pooling, n_features, n_features)
            self.after = _network(widths, hidden, activation)
        else:
            self.pooling = (
                make_pooling(pooling, 1, 1)
                if _plain(pooling)
                else (make_pooling(pooling, n_features, 1))
            )
            if not self.pooling.learned:
                self.before = _network(widths, hidden, activation)
        self.extensive = chosen == "atomwise" and self.pooling.extensive
        self.smooth = self.pooling.smooth

    @property
    def has_weights(self) -> bool:
        """Whether the pooling can say how much each atom counts."""
        return isinstance(self.pooling, WeightedPooling)

    def atomic(self, scalars: Float[Tensor, "atoms n"]) -> Float[Tensor, "atoms m"]:
        """Return what is pooled; float64 unless the pooling has weights of its own."""
        values: Tensor = self.before(scalars)
        return values if self.pooling.learned else values.double()

    def pool(
        self, values: Float[Tensor, "atoms m"], systems: Segments
    ) -> Float[Tensor, " systems"]:
        """Return y of what ``atomic`` gave, float64."""
        pooled = self.pooling(values, systems)
        if isinstance(self.after, Layers):
            pooled = self.after(pooled.to(self.after.last.weight.dtype))
        return pooled[:, 0].double()

    def weights(
        self, scalars: Float[Tensor, "atoms n"], systems: Segments
    ) -> Float[Tensor, " atoms"]:
        """Return the weight of each atom; they sum to 1 over a system."""
        assert isinstance(self.pooling, WeightedPooling)  # has_weights
        return self.pooling.weights(self.before(scalars), systems)


def _kind(choice: PoolingChoice) -> str:
    return choice if isinstance(choice, str) else str(choice.get("kind"))


def _plain(choice: PoolingChoice) -> bool:
    kind = _kind(choice)
    return kind not in POOLINGS or not POOLINGS[kind].learned


def _usual_design(choice: PoolingChoice) -> Design:
    return "embedding" if _kind(choice) == "attention" else "atomwise"


def _network(widths: list[int], hidden: int, activation: Activation) -> nn.Module:
    if hidden > 0:
        return Layers(widths, activation)
    if hidden < 0 or widths[0] != 1:
        raise ValueError(
            f"n_hidden is {hidden} with {widths[0]} features; give a positive width, "
            "or 0 with one feature"
        )
    return nn.Identity()
