"""Every notebook runs from top to bottom, ends in a picture, and is kept without outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
SMALL = {  # in place of the cell with the tag `parameters`
    "first_search": "patients, trials, epochs = 120, 8, 1",
    "compare_fusion": "patients, epochs, seeds = 120, 1, 1",
    "bring_your_own_data": "patients, epochs = 90, 2",
}
NEEDS = {"read_a_study": "first_search"}  # the study that it reads
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def read(name: str) -> Any:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def run(name: str, folder: Path) -> Any:
    """Run a notebook with small settings in a folder and return it with its outputs."""
    notebook = read(name)
    settings = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    assert len(settings) == (name in SMALL)
    for cell in settings:
        assert cell.source.partition("=")[0] == SMALL[name].partition("=")[0]
        cell.source = SMALL[name]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs_and_ends_in_a_picture(name: str, folder: Path) -> None:
    if name in NEEDS and not (folder / "runs" / NEEDS[name].replace("_", "-")).is_dir():
        run(NEEDS[name], folder)  # where the tests are dealt out to several processes
    cells = [cell for cell in run(name, folder).cells if cell.cell_type == "code"]
    assert not [out for cell in cells for out in cell.outputs if out.output_type == "error"]
    assert any("image/png" in out.get("data", {}) for out in cells[-1].outputs)


def test_there_are_four_without_outputs_and_with_something_to_read() -> None:
    assert NAMES == ["bring_your_own_data", "compare_fusion", "first_search", "read_a_study"]
    for name in NAMES:
        cells = read(name).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        assert not any(cell.outputs or cell.execution_count for cell in code), name
        assert sum(len(cell.source.splitlines()) for cell in code) < 60, name
        assert cells[0].cell_type == "markdown"
        assert cells[0].source.startswith("# ")
