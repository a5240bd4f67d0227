from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from lsd.pipeline.errors import ConfigError, LsdError
from lsd.pipeline.run_directory import claim, find_runs, name_for


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "livesd"


def test_a_run_is_found_by_others_until_it_is_removed(base):
    run = claim("demo")
    assert run.path == base / "demo"
    assert run.path.stat().st_mode & 0o777 == 0o700
    assert base.stat().st_mode & 0o777 == 0o700
    (found,) = find_runs()
    assert (found.name, found.pid) == ("demo", os.getpid())
    run.remove()
    assert find_runs() == []
    assert list(base.iterdir()) == []


def test_a_name_is_taken_once():
    run, other = claim("demo"), claim("other")
    with pytest.raises(ConfigError, match=rf"demo runs already \(pid {os.getpid()}\).*--name NAME"):
        claim("demo")
    assert [each.name for each in find_runs()] == ["demo", "other"]
    run.remove()
    claim("demo").remove()
    other.remove()


def test_what_a_dead_run_left_is_swept_away(base):
    program = (
        "import os; from lsd.pipeline.run_directory import claim; run = claim('demo'); "
        "open(run.path / 'status.sock', 'w').close(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
    assert (base / "demo" / "status.sock").exists()
    (base / "stray").mkdir()  # that nobody ran in
    told = []
    assert find_runs(told.append) == []
    (line,) = told
    assert re.match(r"demo: its supervisor \(pid \d+\) was killed", line)
    assert find_runs(told.append) == []
    assert told == [line]
    assert list(base.iterdir()) == []


def test_a_dead_runs_name_can_be_taken_at_once(base):
    (base / "demo").mkdir(parents=True, mode=0o700)
    base.chmod(0o700)
    (base / "demo" / "pid").write_text("1\n")
    run = claim("demo")
    assert (run.path / "pid").read_text() == f"{os.getpid()}\n"
    run.remove()


def test_a_folder_that_others_may_enter_is_refused(base):
    base.mkdir(mode=0o755)
    with pytest.raises(LsdError, match="a folder of your own with mode 0700"):
        claim("demo")
    with pytest.raises(LsdError, match="a folder of your own with mode 0700"):
        find_runs()


def test_a_link_in_the_place_of_the_folder_is_refused(base, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    base.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LsdError, match="a folder of your own"):
        claim("demo")


def test_a_link_inside_is_removed_and_what_it_leads_to_is_not(base, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    base.mkdir(mode=0o700)
    (base / "demo").symlink_to(precious)
    assert find_runs() == []
    assert (precious / "file").exists()
    assert list(base.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".", "a b", "x" * 49, "-x", "\n"])
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(ConfigError, match="expected up to 48 letters"):
        claim(name)


@pytest.mark.parametrize("name", ["demo", "my pipeline (2)", "...", "/etc", "Ä" * 60, "x" * 64])
def test_every_pipeline_has_a_name_that_can_be_taken(name):
    claim(name_for(name)).remove()
