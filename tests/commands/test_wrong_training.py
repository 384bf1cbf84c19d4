"""Wrong recipes and folders: one sentence, exit code 2, nothing overwritten."""

from pathlib import Path

import pytest
from command_line import CommandLine, contents
from tiny_recipes import write_recipe, write_water_recipe


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("epochs =", "epoch =", "'epoch' is no key of [training]"),
        ('energy = "eV"', 'energy = "erg"', "units.energy = 'erg' is not known"),
        ('kind = "painn"', 'kind = "gnn"', "give 'painn' or 'schnet'"),
        ("n_features = 4", "n_feature = 4", "network painn"),
        ("[heads.dipole]", "[heads.charm]", "scalars states no unit of charm"),
        ("ethanol_120", "ethanol_121", "ethanol_121.npz"),
        ("[data]", "[data", "tiny.toml"),
        ("train = 16", "train = 1600", "the data has 120"),
    ],
)
def test_wrong_recipes_are_refused(
    molpool: CommandLine, tmp_path: Path, old: str, new: str, part: str
) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new, 1))
    assert part in molpool.refused("train", recipe, "--out", tmp_path / "p")
    assert not (tmp_path / "p" / "potential.json").exists()


def test_missing_recipes_are_refused(molpool: CommandLine, tmp_path: Path) -> None:
    words = ["train", tmp_path / "no.toml", "--out", tmp_path / "p"]
    assert "there is no recipe" in molpool.refused(*words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ([], "is not empty; give another folder, --resume to continue, or --force"),
        (["--resume", "--force"], "give one of the two"),
    ],
)
def test_a_folder_in_use_is_left_as_it_is(
    molpool: CommandLine, water: Path, options: list[str], part: str
) -> None:
    before = contents(water)
    recipe = water.parent / "recipe" / "tiny.toml"
    assert part in molpool.refused("train", recipe, "--out", water, *options)
    assert contents(water) == before


def test_resuming_needs_something_to_resume(
    molpool: CommandLine, tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    words = ["train", recipe, "--out", tmp_path / "p", "--resume"]
    assert "holds no checkpoint.pt to resume" in molpool.refused(*words)
    assert not (tmp_path / "p").exists()


def test_resuming_with_another_recipe_is_refused(
    molpool: CommandLine, water: Path, tmp_path: Path
) -> None:
    other = write_water_recipe(tmp_path, epochs=41)
    before = contents(water)
    words = ["train", other, "--out", water, "--resume"]
    assert "belongs to another recipe" in molpool.refused(*words)
    assert contents(water) == before


@pytest.mark.parametrize("name", ["file.txt", "file.txt/below"])
def test_a_folder_that_cannot_be_made_is_refused(
    molpool: CommandLine, tmp_path: Path, name: str
) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    (tmp_path / "file.txt").write_text("precious")
    sentence = molpool.refused("train", recipe, "--out", tmp_path / name)
    assert "is a file" in sentence or "cannot be made" in sentence
    assert (tmp_path / "file.txt").read_text() == "precious"
