"""The pipeline that a YAML describes: typed, strict, every field with limits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from lsd.pipeline.claims import clashes
from lsd.pipeline.config_fields import METRICS_PORT, CoresField, SizeField
from lsd.pipeline.config_fields import SIZE_MAX as SIZE_MAX
from lsd.pipeline.config_fields import SIZE_MIN as SIZE_MIN
from lsd.pipeline.config_fields import SIZE_STEP as SIZE_STEP
from lsd.pipeline.config_problems import dotted, feedback_problems, got, problems_of
from lsd.pipeline.errors import ConfigError
from lsd.pipeline.frame import Size
from lsd.pipeline.hosts import HostConfig, HostName, WireConfig, host_problems
from lsd.pipeline.instances import InstancesField, instance_documents, located
from lsd.pipeline.ladder_config import LadderField, RungConfig, ladder_problems
from lsd.pipeline.overrides import Override
from lsd.pipeline.pacer import OnMiss
from lsd.pipeline.params import StageOptions
from lsd.pipeline.registry import Registry
from lsd.pipeline.strict import StageName, Strict
from lsd.pipeline.suggest import did_you_mean
from lsd.pipeline.workers import (
    SupervisionConfig,
    Worker,
    WorkerConfig,
    WorkerName,
    worker_problems,
)
from lsd.pipeline.yaml_locations import Document, Where, read_yaml


def _stages(value: Any) -> Any:
    """Let `kind` default to the stage's name, and an empty stage be all defaults."""
    if not isinstance(value, dict):
        return value
    filled = {name: {} if item is None else item for name, item in value.items()}
    return {
        name: {"kind": name, **item} if isinstance(item, dict) else item
        for name, item in filled.items()
    }


def _stage(value: Any, handler: Any, info: ValidationInfo) -> StageOptions:
    """Validate one stage by the options class of its kind (the union's discriminator)."""
    if not isinstance(value, dict):
        options: StageOptions = handler(value)  # says what is wrong with it
        return options
    kind = value["kind"]
    if not isinstance(kind, str):
        raise PydanticCustomError(
            "stage_kind", "{text}", {"text": f"expected str, got {got(kind)}"}
        )
    registry: Registry = (info.context or {}).get("registry") or Registry()
    try:
        options_class = registry.stage(kind).Options
    except ConfigError as error:
        raise PydanticCustomError("stage_kind", "{text}", {"text": str(error)}) from error
    # Through JSON: there a list may fill a tuple and text an enum, in strict mode too.
    return options_class.model_validate_json(json.dumps(value), strict=True)


class FeedbackConfig(Strict):
    """The recurrence: what left one stage comes back to others, frames later."""

    source: StageName = Field(
        alias="from", description="The stage whose output comes back as `previous`"
    )
    to: list[StageName] = Field(
        min_length=1, max_length=16, description="The stages that receive it"
    )
    delay: int = Field(1, ge=1, le=8, description="How many frames later")


class MetricsConfig(Strict):
    """Where a run tells machines how it goes, over HTTP."""

    port: int = Field(
        METRICS_PORT,
        ge=0,
        le=65535,
        description="Port of /metrics, /healthz and /readyz; 0: any free one",
    )
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        max_length=255,
        description="Address to listen on; 0.0.0.0 lets the whole network ask",
    )


class PipelineConfig(Strict):
    """One pipeline: what runs, at which size and rate, in which order."""

    name: str = Field(
        "pipeline", min_length=1, max_length=64, description="What reports call this pipeline"
    )
    live: bool = Field(
        True,
        description="true: the newest picture wins, frames have a deadline, a late one is "
        "replaced (on_miss). false: file to file, nothing is lost, no deadline, the "
        "source's time stamps are kept",
    )
    size: SizeField = Field(
        Size(256, 256),
        description=f"WIDTHxHEIGHT inside the pipeline, multiples of {SIZE_STEP} from "
        f"{SIZE_MIN} to {SIZE_MAX}",
    )
    rate_hz: float = Field(
        25.0, ge=1, le=240, description="Pictures a second to produce (only when live)"
    )
    latency_ms: float = Field(
        40.0,
        ge=1,
        le=10_000,
        description="Budget of a frame from capture to the hand-over to the sinks (only when live)",
    )
    ladder: LadderField = Field(
        "auto",
        description="How a frame may be made when the budget is too short (only when live): auto "
        "(fewer steps, smaller pictures, the last output again), off (always as the stages say), "
        "or rungs, best first: [{steps: 2}, {steps: 1, size: 192x192}, reuse]",
    )
    hold: int | None = Field(
        None, ge=0, le=15, description="Stay on this rung of the ladder, 0 is the best"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda:\d{1,2})$",
        description="Where the stages compute: auto, cpu or cuda:N",
    )
    on_miss: OnMiss = Field(
        "repeat",
        description="What goes out where a frame misses its deadline (only when live): repeat, the "
        "last picture; passthrough, the newest captured picture, unstyled; interpolate, the last "
        "picture carried on by its motion",
    )
    on_error: Literal["skip", "stop"] = Field(
        "skip",
        description="A frame whose stage raised an error is counted as failed; then skip "
        "it, or stop",
    )
    stages: Annotated[
        dict[StageName, Annotated[SerializeAsAny[StageOptions], WrapValidator(_stage)]],
        BeforeValidator(_stages),
    ] = Field(
        min_length=1,
        max_length=32,
        description="The stages by name, in the order that frames pass them; `kind` defaults "
        "to the name",
    )
    feedback: FeedbackConfig | None = Field(
        None, description="The recurrence; without it, no stage sees an earlier frame"
    )
    metrics: MetricsConfig | None = Field(
        None, description="Metrics for Prometheus and `livesd top`; without it, none are served"
    )
    workers: dict[WorkerName, Worker] | None = Field(
        None,
        min_length=1,
        max_length=32,
        description="Processes by name, each with the stages that it runs: a list, or a mapping "
        "with 'stages'; every stage once, in order. Without it, one process runs all",
    )
    hosts: dict[HostName, HostConfig] | None = Field(
        None,
        min_length=1,
        max_length=32,
        description="Machines by name, on which the workers run (their `host`), and where the "
        "others reach each; `livesd up --host NAME` on each of them. Without it, there is one",
    )
    wire: WireConfig | None = Field(None, description="The links between hosts")
    instances: InstancesField | None = Field(
        None,
        description="Copies of the pipeline that run beside each other: how many, their names, or "
        "names with what each has of its own, such as {hall: {stages.capture.input: hall.mp4}}; "
        "{instance} in a text becomes the name. Without it, there is one",
    )
    cores: CoresField = Field(
        "auto",
        description="The processor cores to run on: a list; all; or auto, which shares them out "
        "to the instances (a list: those) and otherwise is all",
    )
    supervision: SupervisionConfig = Field(
        default_factory=lambda: SupervisionConfig.model_validate({}),
        description="What is done about a worker that dies, hangs or does not start",
    )

    _document: Document | None = PrivateAttr(None)
    _instanced: dict[str, PipelineConfig] = PrivateAttr(default_factory=dict)

    @property
    def instanced(self) -> Mapping[str, PipelineConfig]:
        """The pipeline of each instance, by name, each a whole one; empty without `instances`."""
        return self._instanced

    def where(self, *path: str) -> str:
        """Return the file, line and column of `path`; where there is no file, the path."""
        return str(self.place(*path))

    def place(self, *path: str) -> Where:
        """Return the same as a place that can be sorted."""
        if self._document is None:
            return Where(dotted(path))
        return self._document.where(path, key=True)


def load_config(
    source: str, overrides: Iterable[Override] = (), registry: Registry | None = None
) -> PipelineConfig:
    """Read, change by the command line's flags, and validate a pipeline.

    Args:
        source: a path, or the name of a bundled config such as "demo".
        overrides: what flags change, in order.
        registry: where stage kinds come from; by default, what is installed.

    Raises:
        ConfigError: everything that is wrong, a line each, in the order of the file.
    """
    registry = registry or Registry()
    document = read_yaml(*find_config(source))
    if document.data is None:
        raise ConfigError(f"{document.name}: the file is empty, expected a pipeline with 'stages:'")
    if isinstance(document.data, dict):
        for override in overrides:
            override.apply(document, registry)
    return validate(document, registry)


def validate(document: Document, registry: Registry) -> PipelineConfig:
    """Check a document; see `load_config` for what it raises."""
    problems = list(document.problems)
    config = None
    try:
        config = PipelineConfig.model_validate(document.data, context={"registry": registry})
    except ValidationError as error:
        fields = _fields(document, registry)
        problems += problems_of(error, document, fields)
    problems += feedback_problems(document)
    if config is not None:
        problems += ladder_problems(config.ladder, config.size, document)
    problems += [*worker_problems(document), *host_problems(document)]
    if problems or config is None:
        raise ConfigError("\n".join(str(problem) for problem in sorted(problems)))
    config._document = document
    if config.instances is not None:
        config._instanced = _instances(document, config.instances, registry)
    return config


def _instances(
    document: Document, instances: Mapping[str, Mapping[str, Any]], registry: Registry
) -> dict[str, PipelineConfig]:
    """Check each instance of a pipeline that is right itself; raises as `validate` does."""
    found: dict[str, PipelineConfig] = {}
    problems: list[str] = []
    for name, each in instance_documents(document, instances).items():
        try:
            found[name] = validate(each, registry)
        except ConfigError as error:
            problems += located(error, name)
    problems = problems or [str(problem) for problem in sorted(clashes(found))]
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def find_config(source: str) -> tuple[Path, str]:
    """Return the file that `source` means, and what to call it in messages.

    Raises:
        ConfigError: neither a file nor a bundled config is called so.
    """
    path = Path(source)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path, source
    names = bundled_configs()
    if source in names:
        bundled = names[source]
        here = Path.cwd()
        return bundled, str(bundled.relative_to(here) if bundled.is_relative_to(here) else bundled)
    hint = did_you_mean(source, names, "the bundled ones are")
    raise ConfigError(f"no file and no bundled config is called {source!r}; {hint}")


def bundled_configs() -> Mapping[str, Path]:
    """Return the pipelines that come with the package: name -> file."""
    # `lsd` installs as plain files only (weights are mapped from there), so
    # every resource has a path.
    folder = Path(str(resources.files("lsd.configs")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _fields(document: Document, registry: Registry) -> dict[tuple[str, ...], list[str]]:
    """Return which fields each mapping of the document may have, for suggestions."""
    fields: dict[tuple[str, ...], list[str]] = {
        (): _names(PipelineConfig),
        ("feedback",): _names(FeedbackConfig),
        ("metrics",): _names(MetricsConfig),
        ("supervision",): _names(SupervisionConfig),
        ("wire",): _names(WireConfig),
    }
    data = document.data if isinstance(document.data, dict) else {}
    keys = ("ladder", "stages", "workers", "hosts")
    ladder, stages, workers, hosts = (data.get(key) for key in keys)
    for number in range(len(ladder) if isinstance(ladder, list) else 0):
        fields["ladder", str(number)] = _names(RungConfig)
    for name in workers if isinstance(workers, dict) else ():
        fields["workers", name] = _names(WorkerConfig)
    for name in hosts if isinstance(hosts, dict) else ():
        fields["hosts", name] = _names(HostConfig)
    for name, item in stages.items() if isinstance(stages, dict) else ():
        kind = item.get("kind", name) if isinstance(item, dict) else name
        if isinstance(kind, str) and kind in registry.kinds():
            try:
                fields["stages", name] = _names(registry.stage(kind).Options)
            except ConfigError:
                continue  # the stage is broken: reported by the validation itself
    return fields


def _names(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]
