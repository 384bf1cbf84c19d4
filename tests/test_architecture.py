"""The house rules that a machine can check: layers, borders, budgets."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "molpool_calc"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "potentials" not in path.relative_to(PACKAGE).parts
}

LAYERS = [
    "_version interfaces units elements segments pair_sums edges snapshot packing "
    "threads",
    "kernels",
    "atoms batches neighbors networks poolings molecules foreign",
    "heads pair_terms",
    "potential",
    "derivatives storage tangents connectivity",
    "native",
    "engine importers provenance suitability",
    "compilation",
    "results md spectra training",
    "evaluator",
    "response harmonic_file dipole_flux estimates trajectory_file assignment sidecar "
    "run_inputs run_temperature",
    "calculator",
    "sharing",
    "statics replicas run_spectrum ensembles recompute trajectory_motion ase_settings",
    "ase_integrators",
    "ase_dynamics dynamics_job",
    "infrared_job",
    "dynamics audit bench report run_bands file_spectrum",
    "infrared path_integrals",
    "ase_format ase_plugin ase_trajectory commands",
    "cli",
    "__init__ __main__",
]
"""From the ground up: a module imports from lower layers or its own sub-package.

``segments`` and ``pair_sums`` build on ``interfaces`` within the lowest layer.
"""

GROUND = {
    "segments": {"interfaces"},
    "pair_sums": {"interfaces", "segments"},
    "edges": {"interfaces"},
    "packing": {"interfaces"},
}

BORDERS = {
    "ase": (
        "ase_dynamics ase_format ase_plugin ase_trajectory atoms audit bench "
        "calculator cli commands compilation.structures dynamics elements evaluator "
        "foreign infrared molecules neighbors.backends path_integrals recompute "
        "replicas report response results "
        "run_inputs sharing sidecar snapshot statics suitability training "
        "trajectory_file"
    ),
    "argparse": "cli commands compilation.build training.build_step",
    "h5py": "md.h5md md.replica_frames training.readers",
    "ipi": "path_integrals.child",
    "json": (
        "bench.peer bench.serve cli commands compilation.cache harmonic_file "
        "molecules storage spectra.files "
        "spectra.band_files path_integrals.driver recompute report "
        "md.manifest md.h5md importers.mlff_model training.recipe training.step_request"
    ),
    "jcamp": "spectra.jcamp_dx",
    "matplotlib": "spectra.plot training.curve",
    "matscipy": "neighbors.backends",
    "pickle": "training.checkpoint",
    "pickletools": "importers.restricted_pickle",
    "safetensors": "storage",
    "scipy": "assignment spectra",
    "tqdm": "commands.console",
    "triton": (
        "kernels.triton_attention kernels.triton_degrees kernels.triton_heads "
        "kernels.triton_painn kernels.triton_parts kernels.triton_schnet"
    ),
    "vesin": "neighbors.backends",
    "pandas": "",
    "requests": "",
    "urllib": "",
    "subprocess": (
        "bench.peer compilation.builder native.library path_integrals.processes "
        "training.compiled_step"
    ),
    "torch.distributed": "training.processes",
    "warnings": "bench.worker_schnetpack compilation.build training.build_step",
}
"""Library → the only modules that may import it."""

PLACES = {
    "torch.autograd.grad": "derivatives kernels.messages tangents",
    "torch.func": "derivatives training.steps",
    "torch.compile": "",
    "torch.export": "compilation.build training.build_step",
    "torch._inductor": "compilation.build training.build_step",
    "torch._C": "compilation.package training.build_step",
    "torch.cuda.CUDAGraph": "compilation.capture",
    "torch.cuda.graph": "compilation.capture",
    "torch.set_default_dtype": "",
    "torch.set_default_device": "",
    "torch.set_num_threads": (
        "batches training.train training.build_step compilation.build "
        "path_integrals.child bench.timing bench.worker_schnetpack threads"
    ),
    "torch.use_deterministic_algorithms": "",
    "torch.manual_seed": "",
    "os.environ": "",
    "random.seed": "",
    "np.random.seed": "",
}
"""Attribute → the only modules that may use it.

Those that set the number of threads put the old one back, or are processes of their
own.
"""

CALLS = {"print": "cli commands.console", "eval": "", "exec": "", "input": ""}
"""Built-in → the only modules that may call it."""

NO_TORCH = (
    "assignment",
    "spectra",
    "units",
    "molecules",
    "snapshot",
    "commands",
    "cli",
)
LIGHT = ("matplotlib", "h5py", "pandas", "sklearn", "rdkit", "molpool_calc.training")
LIGHT += ("triton",)
LIGHT += ("molpool_calc.md", "molpool_calc.spectra", "molpool_calc.commands")

FILE_LINES, FUNCTION_LINES, ARGUMENTS = 300, 60, 8
CPP_COLUMNS = 96


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> list[str]:
    """Names of imported modules, also of those imported late; no typing-only ones."""
    return list(_imports_of(module))


def _imports_of(module: str) -> Iterator[str]:
    pending: list[ast.AST] = [tree_of(module)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            if node.module in {"molpool_calc", "os", "scipy"}:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))


def belongs(module: str, allowed: str) -> bool:
    return any(module == a or module.startswith(a + ".") for a in allowed.split())


def layer_of(top: str) -> int:
    return next(n for n, names in enumerate(LAYERS) if top in names.split())


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_from_lower_layers_only(module):
    top = module.split(".")[0]
    for name in imports_of(module):
        package, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if package != "molpool_calc" or target in {"", top}:
            continue
        if target not in {name.split(".")[0] for name in MODULES}:
            continue  # a public name of the package, not a module
        if target in GROUND.get(top, set()):
            continue
        message = f"{module} imports {name}, which is not below it"
        assert layer_of(target) < layer_of(top), message


def test_every_module_has_its_layer():
    known = " ".join(LAYERS).split()
    assert len(known) == len(set(known))
    assert {module.split(".")[0] for module in MODULES} <= set(known)


@pytest.mark.parametrize("library", BORDERS)
def test_libraries_are_imported_at_their_border_only(library):
    users = {
        module
        for module in MODULES
        if any(belongs(name, library) for name in imports_of(module))
    }
    strangers = {module for module in users if not belongs(module, BORDERS[library])}
    assert strangers == set(), f"{library} is imported by {strangers}"


@cache
def attributes_of(module: str) -> set[str]:
    nodes = ast.walk(tree_of(module))
    return {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize("name", PLACES)
def test_what_touches_the_whole_process_or_the_graph_has_one_place(name):
    for module in MODULES:
        offends = any(belongs(text, name) for text in attributes_of(module))
        assert not offends or belongs(module, PLACES[name]), f"{module} uses {name}"


@pytest.mark.parametrize("name", CALLS)
def test_built_ins_are_called_at_their_place_only(name):
    for module in MODULES:
        called = {
            node.func.id
            for node in ast.walk(tree_of(module))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert name not in called or belongs(module, CALLS[name]), module


def test_weights_are_only_ever_read_as_data():
    """Every ``torch.load`` says ``weights_only=True``; nothing unpickles."""
    for module in MODULES:
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.Call):
                text = ast.unparse(node.func)
                if text == "torch.load":
                    stated = {k.arg: ast.unparse(k.value) for k in node.keywords}
                    assert stated.get("weights_only") == "True", module
                assert text not in {"pickle.load", "pickle.loads"}, module


@pytest.mark.parametrize("package", NO_TORCH)
def test_what_needs_no_tensors_imports_no_torch_at_the_top(package):
    for module in MODULES:
        if belongs(module, package):
            top = [
                n
                for n in tree_of(module).body
                if isinstance(n, ast.Import | ast.ImportFrom)
            ]
            text = " ".join(map(ast.unparse, top))
            assert "import torch" not in text, module
            assert "from torch" not in text, module


def test_importing_the_package_stays_light():
    code = f"import sys, molpool_calc; print([m for m in {LIGHT} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_potentials_are_data_without_python():
    assert not list((ROOT / "potentials").rglob("*.py"))


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return node.end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "native" / "cpp").iterdir()), ids=lambda path: path.name
)
def test_files_of_machine_code_keep_their_budget(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= FILE_LINES, f"{path.name} has {len(lines)} lines"
    assert max(map(len, lines)) <= CPP_COLUMNS
    assert lines[0].startswith("// ")


@pytest.mark.parametrize("module", MODULES)
def test_files_and_functions_keep_their_budgets(module):
    lines = MODULES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= FILE_LINES, f"{module} has {lines} lines"
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef):
            count = code_lines(node)
            assert count <= FUNCTION_LINES, f"{module}.{node.name} has {count} lines"


@pytest.mark.parametrize("module", MODULES)
def test_public_things_have_docstrings_and_no_star_arguments(module):
    tree = tree_of(module)
    if module.split(".")[-1] not in {"_version", "__init__"}:
        assert ast.get_docstring(tree), f"{module} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module != "__future__", module
            assert all(alias.name != "*" for alias in node.names), module
        if isinstance(node, ast.ExceptHandler):
            caught = "everything" if node.type is None else ast.unparse(node.type)
            assert caught not in {"everything", "Exception", "BaseException"}, (
                f"{module} catches {caught} in line {node.lineno}"
            )


def test_the_package_offers_at_most_ten_names():
    code = ast.literal_eval(
        next(
            node.value
            for node in tree_of("__init__").body
            if isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "__all__"
        )
    )
    assert len(code) <= 10


def test_nothing_names_the_place_it_was_made_at():
    """No absolute paths in code, data or documents."""
    for folder in ("molpool_calc", "md_examples", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path == Path(__file__) or path.name == "test_zoo.py":
                continue
            text = path.read_text(encoding="utf-8")
            for place in ("/work/", "/root/", "/home/"):
                assert place not in text, f"{path} names {place}"


def test_every_package_is_installed():
    """An editable install finds packages that a wheel would lack."""
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    stated = set(settings["options"]["packages"].split())
    folders = {path.parent for path in PACKAGE.rglob("__init__.py")}
    found = {".".join(path.relative_to(ROOT).parts) for path in folders}
    assert stated == found | {"molpool_calc.potentials"}
