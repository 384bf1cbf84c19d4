"""ASE finds MolPool, and nothing of ASE breaks if it does not."""

import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from ase.calculators.calculator import BaseCalculator

import molpool_calc
from molpool_calc import ase_plugin


def ase(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ASE's command line as users do."""
    command = [sys.executable, "-m", "ase", *arguments]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False
    )


def test_ase_info_lists_the_plugin():
    pytest.importorskip("ase._4.plugins.plugin")
    done = ase("info", "--plugins")
    assert done.returncode == 0, done.stderr
    assert "molpool" in done.stdout


def test_the_entry_point_leads_to_the_plugin():
    (entry,) = entry_points(group="ase.plugins", name="molpool")
    assert entry.value == "molpool_calc.ase_plugin"
    assert entry.load() is ase_plugin
    assert entry.dist is not None
    # `ase info --plugins` takes the name of the distribution for that of the package
    normalised = entry.dist.name.replace("-", "_")
    assert normalised == molpool_calc.__name__ == entry.value.split(".")[0]


def test_the_plugin_is_a_calculator_class():
    module = pytest.importorskip("ase._4.plugins.plugin")
    (plugin,) = ase_plugin.__ase_plugins__
    assert isinstance(plugin, module.CalculatorPlugin)
    assert plugin.name == "molpool"
    assert "PaiNN" in plugin.citation
    assert issubclass(molpool_calc.MolPoolCalculator, BaseCalculator)
    assert plugin.implementation in (
        molpool_calc.MolPoolCalculator,
        "molpool_calc.MolPoolCalculator",
    )


def test_the_plugin_is_there_whatever_of_ase_is_imported_first():
    """ASE loads the I/O format in the middle of its own imports."""
    pytest.importorskip("ase._4.plugins.plugin")
    code = (
        "import ase.io, ase._4.plugins\n"
        "from molpool_calc.ase_plugin import __ase_plugins__\n"
        "assert len(__ase_plugins__) == 1\n"
        "assert 'molpool-h5md' in ase.io.formats.ioformats\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_an_ase_without_plugins_sees_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "ase._4.plugins.plugin", None)
    assert ase_plugin._plugins() == set()


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError])
def test_an_ase_with_other_plugins_sees_none(monkeypatch, error):
    module = pytest.importorskip("ase._4.plugins.plugin")

    def changed(*_: object, **__: object) -> None:
        raise error("another interface")

    monkeypatch.setattr(module, "CalculatorPlugin", changed)
    assert ase_plugin._plugins() == set()
    monkeypatch.delattr(module, "CalculatorPlugin")
    assert ase_plugin._plugins() == set()
