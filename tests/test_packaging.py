"""What is packed, pinned and kept in the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
FOLDERS = ("pipeline", "stages", "kernels", "configs", "lab")  # what the wheel is made of
CODE = (*FOLDERS, "training")
LARGEST_BYTES = 4 * 1024 * 1024
LONGEST_MODULE = 400  # lines


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def tracked() -> list[Path]:
    """Every file that git knows or would take, as far as it still exists."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


def package_folders() -> set[str]:
    """Folders that hold modules or data, as the dotted names they install under."""
    return {
        "lsd." + ".".join(path.parent.relative_to(ROOT).parts)
        for path in tracked()
        if path.relative_to(ROOT).parts[0] in FOLDERS
    }


def test_package_list_is_what_the_tree_holds() -> None:
    # A folder missing here works in an editable install and not in the wheel.
    assert set(project()["tool"]["setuptools"]["packages"]) == package_folders()


def test_every_package_lies_in_the_folder_of_its_name() -> None:
    places = project()["tool"]["setuptools"]["package-dir"]
    assert places == {name: name[4:].replace(".", "/") for name in package_folders()}


def test_every_package_but_kernels_can_be_imported_for_its_data() -> None:
    # importlib.resources wants an __init__.py. In kernels/ it would shadow
    # Hugging Face's package of that name in a checkout.
    bare = {
        name
        for name in package_folders()
        if not (ROOT / name[4:].replace(".", "/") / "__init__.py").exists()
    }
    assert bare == {"lsd.kernels"}
    assert not (ROOT / "__init__.py").exists()
    assert not (ROOT / "lsd").exists()


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    # Built from a copy: setuptools leaves build/lib and *.egg-info behind.
    for path in tracked():
        copy = tmp_path / "tree" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    command = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
    ]
    subprocess.run(
        [sys.executable, *command, str(tmp_path), str(tmp_path / "tree")], check=True, timeout=120
    )

    (wheel,) = tmp_path.glob("livesd-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("lsd/")}
    expected = {
        f"lsd/{path.relative_to(ROOT).as_posix()}"
        for path in tracked()
        if path.relative_to(ROOT).parts[0] in FOLDERS
    }
    assert packed == expected


def test_every_dependency_is_pinned_to_a_version_it_allows() -> None:
    requirements = list(project()["project"]["dependencies"])
    extras = project()["project"]["optional-dependencies"]
    requirements += extras["dev"] + extras["onnxruntime"]
    pins = pinned()
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"constraints.txt lacks {name}"
        assert requirement.specifier.contains(pins[name]), f"{requirement} refuses {pins[name]}"


def test_pins_hold_on_any_machine() -> None:
    assert pinned()["torch"] == "2.13.0"  # 2.13.0+cpu would be on one index only
    assert not [pin for pin in pinned().values() if "+" in pin]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_stages_are_found_by_the_names_that_the_yaml_uses() -> None:
    entries = project()["project"]["entry-points"]["lsd.stages"]
    assert list(entries) == ["capture", "recall", "diffusion", "memory", "blend", "output"]
    for target in entries.values():
        module, name = target.split(":")
        path = ROOT / (module[4:].replace(".", "/") + ".py")
        assert re.search(rf"^class {name}\b", path.read_text(), re.MULTILINE), target


def test_no_file_names_a_folder_that_no_user_has() -> None:
    # Put together here, so that this file does not name them either.
    strangers = re.compile("|".join((r"\.\./" + "shared", "/" + "work/")).encode())
    assert [str(p) for p in tracked() if strangers.search(p.read_bytes())] == []


def test_no_file_is_over_four_mebibytes() -> None:
    assert [str(p) for p in tracked() if p.stat().st_size > LARGEST_BYTES] == []


def test_no_module_is_over_four_hundred_lines() -> None:
    modules = [p for p in tracked() if p.suffix == ".py" and p.relative_to(ROOT).parts[0] in CODE]
    long = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in modules}
    assert {name: count for name, count in long.items() if count > LONGEST_MODULE} == {}


def test_licence_is_the_whole_apache_licence() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert project()["project"]["license"] == "Apache-2.0"
