"""Dependencies point one way; read from the source, so that late imports count too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def imports_of(folder):
    """Yield (file, imported lsd module) for all Python files under `folder`."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are always lsd.<folder>.<module>"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            yield from ((path, name) for name in names if name.startswith("lsd."))


def offenders(folder, forbidden):
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, name in imports_of(folder)
        if any(name == wrong or name.startswith(f"{wrong}.") for wrong in forbidden)
    ]


def test_pipeline_knows_no_stage_no_kernel_and_no_lab():
    assert not offenders("pipeline", ["lsd.stages", "lsd.kernels", "lsd.lab", "lsd.training"])


def test_stages_do_not_know_the_machine_that_runs_them():
    machine = ("runner", "loops", "output_loop", "recurrence", "session", "cli", "graph", "config",
               "report", "supervisor")  # fmt: skip
    forbidden = [f"lsd.pipeline.{module}" for module in machine]
    assert not offenders("stages", [*forbidden, "lsd.lab"])


def test_kernels_know_nothing_but_the_errors():
    assert not [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, name in imports_of("kernels")
        if not name.startswith(("lsd.pipeline.errors", "lsd.kernels"))
    ]


@pytest.mark.parametrize("folder", ["pipeline", "stages", "kernels", "configs", "lab"])
def test_no_folder_is_imported_by_its_short_name(folder):
    short = ("pipeline", "stages", "kernels", "configs", "lab")
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.split(".")[0] not in short, path


def test_machine_does_not_load_torch_at_import():
    for path in sorted((ROOT / "pipeline").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {"torch", "cv2", "av"} & {name.split(".")[0] for name in names}, path
