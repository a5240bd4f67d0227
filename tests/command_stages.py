"""What the tests of commands share: a folder with p.yaml, and stages of the test's own in it."""

from importlib.metadata import EntryPoint
from pathlib import Path

from fakes import CollectingSink

from lsd.pipeline import registry
from lsd.pipeline.params import StageOptions, restart_field


class SinkOptions(StageOptions):
    outputs: tuple[str, ...] = restart_field((), "where to")


class Sink(CollectingSink):
    Options = SinkOptions

    def __init__(self, name):
        super().__init__(name=name)


def install(monkeypatch, folder, module, yaml, sink=f"{__name__}:Sink"):
    """Go to `folder`, with `yaml` as p.yaml, and a module's Source and Work for stages."""
    kinds = {"capture": f"{module}:Source", "work": f"{module}:Work", "output": sink}
    points = [EntryPoint(kind, value, "lsd.stages") for kind, value in kinds.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    monkeypatch.chdir(folder)
    Path("p.yaml").write_text(yaml)
