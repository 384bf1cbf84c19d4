"""SO3LR in JAX, jitted: energy and forces of one structure.

The published model is JAX code that lies on no registry, so this file writes its
equations down anew (Frank et al., Nat. Commun. 15, 6539 (2024); Kabylda et al., SO3LR
(2024); symbols as in ``molpool_calc.networks.so3krates_euclidean`` and
``molpool_calc.pair_terms``). Only neutral closed shells: their embeddings of charge and
spin are zero and are left out. Pairs are found once, by the caller; all but the
positions is constant to the compiler. ``all.py`` checks the energy and the forces
against MolPool, whose importer is tested against the original.

A job: ``params_file`` (npz of the flax tree), ``numbers``, ``positions``, ``places``,
``cell``, ``dtype``, ``threads``, ``short`` and ``long`` pairs (``center``,
``neighbor``, ``shift``), ``cutoff`` of the long ones in Å or null, ``free_atoms``
(``alpha`` and ``c6`` of the elements).
"""

import itertools
import os
from collections.abc import Callable
from functools import partial
from math import erf, exp, lgamma, pi, sqrt
from typing import Any

import numpy as np

F, HEADS, LAYERS, K = 128, 4, 3, 32
NEIGHBORS, CUTOFF, DECAY = 13.168995780096482, 4.5, 0.944863062918464
COULOMB, HARTREE, BOHR = 14.399645351950548, 27.211386024367243, 0.5291772105638411
FINE_STRUCTURE = 0.0072973525693
ERF_WIDTH, ZBL_REACH, DAMPING_WIDTH = 4.0, 1.5, 2.0
SIZES = (3, 5, 7, 9)

Job = dict[str, Any]


def prepare(job: Job) -> tuple[Callable[[int], None], dict[str, Any]]:
    """Return calls of the jitted function, and what it gives at the first place."""
    if job["threads"] == 1:
        os.environ["XLA_FLAGS"] = (
            "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax  # noqa: PLC0415 - reads the flags above

    jax.config.update("jax_enable_x64", job["dtype"] == "float64")
    dtype = np.dtype(job["dtype"])
    with np.load(job["params_file"]) as file:
        params = {name: file[name].astype(dtype) for name in file.files}
    energy = partial(_energy, constants=_constants(job, params, dtype))
    call = jax.jit(jax.value_and_grad(energy))
    places = itertools.cycle([np.array(place, dtype) for place in job["places"]])

    def steps(n_steps: int) -> None:
        for _ in range(n_steps):
            value, gradient = call(next(places))
            float(value), np.asarray(gradient)

    value, gradient = call(np.array(job["positions"], dtype))
    return steps, {
        "energy": float(value),
        "forces": (-np.asarray(gradient, np.float64)).tolist(),
        "versions": {"jax": jax.__version__},
        "peer_neighbors": "found once",
    }


def _constants(job: Job, params: dict[str, Any], dtype: np.dtype) -> dict[str, Any]:
    cell = np.array(job["cell"], dtype)
    found: dict[str, Any] = {"params": params, "numbers": np.array(job["numbers"])}
    found["far"] = job["cutoff"]
    for name in ("short", "long"):
        pairs = {key: np.array(value) for key, value in job[name].items()}
        found[name] = (
            pairs["center"].astype(np.int32),
            pairs["neighbor"].astype(np.int32),
            pairs["shift"].reshape(-1, 3).astype(dtype) @ cell,
        )
    free = job["free_atoms"]
    found["alpha"] = np.array(free["alpha"], dtype)[found["numbers"] - 1]
    found["c6"] = np.array(free["c6"], dtype)[found["numbers"] - 1]
    return found


def _energy(positions: Any, constants: dict[str, Any]) -> Any:
    """Return the energy in eV."""
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    params, numbers = constants["params"], constants["numbers"]
    center, neighbor, offset = constants["short"]
    vectors = positions[neighbor] - positions[center] + offset
    d = jnp.sqrt((vectors**2).sum(1))
    x = _features(params, numbers, center, neighbor, vectors, d)

    def two(name: str, start: str) -> Any:
        hidden = _dense(params, f"{name}.{start}_regression{_end(start)}", x)
        return _dense(params, f"{name}.{start}_final{_end(start)}", jax.nn.silu(hidden))

    atomic = (
        params["params.observables_0.atomic_scales"][numbers]
        * two("observables_0", "energy_dense")[:, 0]
    )
    energy = (atomic + params["params.observables_0.energy_offset"][numbers]).sum()
    energy += _repulsion(params, numbers, center, neighbor, d)
    charge_head = "observables_0.electrostatic_energy.partial_charges"
    charges = two(charge_head, "charge_dense")[:, 0]
    charges += params[f"params.{charge_head}.Embed_0.embedding"][numbers, 0]
    charges -= charges.mean()
    query = params["params.observables_2.Embed_1.embedding"][numbers]
    change = (query * two("observables_2", "hirshfeld_ratios_dense")).sum(1)
    free = params["params.observables_2.Embed_0.embedding"][numbers, 0]
    ratios = jnp.abs(free + change / sqrt(query.shape[1]))
    return energy + _long_range(positions, constants, charges, ratios)


def _end(start: str) -> str:
    return "_vec" if start == "charge_dense" else ""


def _dense(params: dict[str, Any], name: str, x: Any) -> Any:
    return x @ params[f"params.{name}.kernel"] + params[f"params.{name}.bias"]


def _features(
    params: dict[str, Any],
    numbers: Any,
    center: Any,
    neighbor: Any,
    vectors: Any,
    d: Any,
) -> Any:
    """Return the features after all layers."""
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    x = params["params.feature_embeddings_0.Embed_0.embedding"][numbers] / sqrt(3)
    n = len(numbers)
    u = jnp.minimum(d / CUTOFF, 1.0)
    envelope = (1 - 6 * u**5 + 15 * u**4 - 10 * u**3) / NEIGHBORS
    basis, harmonics = _bernstein(d), _harmonics(vectors / d[:, None])
    member = np.repeat(np.arange(len(SIZES)), SIZES)
    weights = np.zeros((len(member), len(SIZES)), basis.dtype)
    weights[np.arange(len(member)), member] = 1 / np.sqrt(np.array(SIZES)[member])
    chi = jnp.zeros((n, len(member)), basis.dtype)

    def total(values: Any) -> Any:
        return jax.ops.segment_sum(values, center, n, indices_are_sorted=True)

    for k in range(LAYERS):
        block = f"layers_{k}.attention_block"
        invariants = (chi[neighbor] - chi[center]) ** 2 @ weights

        def filters(
            which: int, block: str = block, invariants: Any = invariants
        ) -> Any:
            found = 0.0
            for kind, given in (("radial", basis), ("spherical", invariants)):
                name = f"{block}.{kind}_filter{which}_layer_"
                hidden = jax.nn.silu(_dense(params, f"{name}1", given))
                found = found + _dense(params, f"{name}2", hidden)
            return found.reshape(-1, HEADS, F // HEADS)

        heads = x.reshape(n, HEADS, F // HEADS)

        def project(name: str, heads: Any = heads, block: str = block) -> Any:
            return jnp.einsum("hoi,nhi->nho", params[f"params.{block}.{name}"], heads)

        def attend(which: int) -> Any:
            q, k = project(f"Wq{which}"), project(f"Wk{which}")
            products = q[center] * filters(which) * k[neighbor]
            return products.sum(2) * envelope[:, None]

        alpha, beta = attend(1), attend(2)
        values = project("Wv1")[neighbor]
        x = x + total(alpha[:, :, None] * values).reshape(n, F)
        chi = chi + total(beta[:, member] * harmonics)
        x = _norm(params, f"layers_{k}.layer_normalization_1", x)
        inner = jax.nn.silu(
            _dense(params, f"layers_{k}.res_mlp_1_layer_1", jax.nn.silu(x))
        )
        x = x + _dense(params, f"layers_{k}.res_mlp_1_layer_2", inner)
        both = jnp.concatenate([x, chi**2 @ weights], axis=1)
        both = _dense(params, f"layers_{k}.exchange_block.mlp_layer_2", both)
        x, chi = x + both[:, :F], chi * (1 + both[:, F:][:, member])
        x = _norm(params, f"layers_{k}.layer_normalization_2", x)
    return x


def _norm(params: dict[str, Any], name: str, x: Any) -> Any:
    centered = x - x.mean(1, keepdims=True)
    scaled = centered / ((centered**2).mean(1, keepdims=True) + 1e-6) ** 0.5
    return scaled * params[f"params.{name}.scale"] + params[f"params.{name}.bias"]


def _bernstein(d: Any) -> Any:
    import jax.numpy as jnp  # noqa: PLC0415

    k = np.arange(K)
    logs = [lgamma(K) - lgamma(i + 1) - lgamma(K - i) for i in k]
    log_s = (-DECAY * d)[:, None]
    log_rest = jnp.log(-jnp.expm1(log_s))
    return jnp.exp(np.array(logs, d.dtype) + k * log_s + (K - 1 - k) * log_rest)


def _harmonics(unit: Any) -> Any:
    """Return the real spherical harmonics of degrees 1 to 4, orthonormal."""
    import jax.numpy as jnp  # noqa: PLC0415

    x, y, z = unit.T
    r1, r2 = sqrt(3 / (4 * pi)), sqrt(15 / (4 * pi))
    degrees = [r1 * y, r1 * z, r1 * x]
    degrees += [r2 * x * y, r2 * y * z, sqrt(5 / (16 * pi)) * (3 * z * z - 1)]
    degrees += [r2 * x * z, r2 / 2 * (x * x - y * y)]
    a, b, c = sqrt(35 / (32 * pi)), sqrt(105 / (4 * pi)), sqrt(21 / (32 * pi))
    degrees += [a * y * (3 * x * x - y * y), b * x * y * z, c * y * (5 * z * z - 1)]
    degrees += [sqrt(7 / (16 * pi)) * z * (5 * z * z - 3), c * x * (5 * z * z - 1)]
    degrees += [b / 2 * z * (x * x - y * y), a * x * (x * x - 3 * y * y)]
    e, f = 0.75 * sqrt(35 / pi), 0.75 * sqrt(35 / (2 * pi))
    g, h = 0.75 * sqrt(5 / pi), 0.75 * sqrt(5 / (2 * pi))
    degrees += [e * x * y * (x * x - y * y), f * y * z * (3 * x * x - y * y)]
    degrees += [g * x * y * (7 * z * z - 1), h * y * z * (7 * z * z - 3)]
    degrees += [3 / (16 * sqrt(pi)) * (35 * z**4 - 30 * z * z + 3)]
    degrees += [h * x * z * (7 * z * z - 3), g / 2 * (x * x - y * y) * (7 * z * z - 1)]
    degrees += [f * x * z * (x * x - 3 * y * y)]
    degrees += [e / 4 * (x * x * (x * x - 3 * y * y) - y * y * (3 * x * x - y * y))]
    return jnp.stack(degrees, axis=1)


def _switch(d: Any, start: float, stop: float) -> Any:
    """Return 1 up to ``start`` and 0 from ``stop`` on, smooth to all orders."""
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    c = jnp.clip((d - start) / (stop - start), 1e-3, 1 - 1e-3)
    return jax.nn.sigmoid(1 / c - 1 / (1 - c))


def _repulsion(
    params: dict[str, Any], numbers: Any, center: Any, neighbor: Any, d: Any
) -> Any:
    import jax  # noqa: PLC0415
    import jax.numpy as jnp  # noqa: PLC0415

    def learned(*names: str) -> Any:
        root = "params.observables_0.zbl_repulsion"
        return jax.nn.softplus(jnp.concatenate([params[f"{root}.{n}"] for n in names]))

    exponents, weights = (
        learned("a1", "a2", "a3", "a4"),
        learned("c1", "c2", "c3", "c4"),
    )
    z = numbers.astype(d.dtype)
    size = z ** learned("p") * learned("d")
    t = d * (size[center] + size[neighbor])
    screening = jnp.exp(-t[:, None] * exponents) @ (weights / weights.sum())
    u = jnp.minimum(d / CUTOFF, 1.0)
    envelope = 1 - 6 * u**5 + 15 * u**4 - 10 * u**3
    near = screening * envelope * _switch(d, 0.0, ZBL_REACH)
    return 0.5 * COULOMB * (near * z[center] * z[neighbor] / d).sum()


def _long_range(
    positions: Any, constants: dict[str, Any], charges: Any, ratios: Any
) -> Any:
    """Return the energy of charges and dispersion, over the long list."""
    import jax.numpy as jnp  # noqa: PLC0415
    from jax.scipy.special import erf as erf_of  # noqa: PLC0415

    center, neighbor, offset = constants["long"]
    far = constants["far"]
    vectors = positions[neighbor] - positions[center] + offset
    d = jnp.sqrt((vectors**2).sum(1))
    kernel = erf_of(d / ERF_WIDTH) / d
    inside = 1.0
    if far is not None:
        value = erf(far / ERF_WIDTH) / far
        slope = 2 * exp(-((far / ERF_WIDTH) ** 2)) / (sqrt(pi) * ERF_WIDTH) - value
        bend = slope / far * (1 - _switch(d, 0.45 * far, far)) * (d - far)
        kernel = (kernel - value - bend) * (d < far)
        inside = _switch(d, far - DAMPING_WIDTH, far)
    electric = 0.5 * COULOMB * (charges[center] * charges[neighbor] * kernel).sum()
    alpha, c6 = constants["alpha"] * ratios, constants["c6"] * ratios**2
    a_i, a_j, c_i, c_j = alpha[center], alpha[neighbor], c6[center], c6[neighbor]
    both = (a_i + a_j) / 2
    mixed = 2 * c_i * c_j * a_i * a_j / (a_i**2 * c_j + a_j**2 * c_i)
    r = FINE_STRUCTURE ** (-4 / 21) * both ** (1 / 7)
    width = -0.00078893 * r**3 + 0.04125273 * r**2 + 0.24428889 * r - 0.00433008
    gamma = 1 / (2 * width**2)
    damping = 1.2 * 2 * 2.54 * both ** (1 / 7)
    distance, series = d / BOHR, 0.0
    for n, factor in ((6, 1.0), (8, 5 / gamma), (10, 245 / (8 * gamma**2))):
        series = series + factor * mixed / (distance**n + damping**n)
    return electric - 0.5 * HARTREE * (series * inside).sum()
