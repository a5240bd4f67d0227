"""What `workers:` and `supervision:` of a pipeline file say: which process does what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from lsd.pipeline.config_problems import dotted
from lsd.pipeline.strict import StageName, Strict
from lsd.pipeline.suggest import did_you_mean
from lsd.pipeline.yaml_locations import Document, KeyPath, Problem

WorkerName = StageName


class WorkerConfig(Strict):
    """One process: the stages that it runs, and on what."""

    stages: list[StageName] = Field(
        min_length=1, max_length=32, description="The stages that it runs, neighbours, in order"
    )
    host: StageName | None = Field(
        None, description="One of the pipeline's `hosts`; needed where there are any"
    )
    device: str | None = Field(
        None,
        pattern=r"^(auto|cpu|cuda:\d{1,2})$",
        description="Where its stages compute: auto, cpu or cuda:N; default: the pipeline's",
    )
    cores: list[Annotated[int, Field(ge=0, le=4095)]] | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="The processor cores that it may run on; default: the pipeline's",
    )
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")], str] = Field(
        {}, max_length=64, description="Environment variables for it, beside the supervisor's"
    )
    costs_ms: dict[StageName, Annotated[float, Field(gt=0, le=60_000)]] = Field(
        {},
        max_length=32,
        description="What a frame takes in its stages, as `livesd trace` measures it there; "
        "default: as measured on the CPU of docs/operations.md. Decides whether a recurrence "
        "across workers can make the rate",
    )

    @property
    def about(self) -> str:
        """Where it runs, and on what, for a drawing."""
        return ", ".join(filter(None, (self.host, self.device)))


class SupervisionConfig(Strict):
    """What is done about a worker that dies, hangs or does not start."""

    restart: Literal["on_failure", "always", "never"] = Field(
        "on_failure",
        description="on_failure: a worker that crashed or hung is started again; always: one that "
        "ended regularly as well; never: the first failure ends the run",
    )
    max_restarts: int = Field(
        5,
        ge=0,
        le=1000,
        description="So many restarts of a worker in a row; one more failure ends the run",
    )
    restart_window_s: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="A worker that ran well for so long begins anew to count its restarts",
    )
    restart_delay_s: float = Field(
        0.25, ge=0, le=60, description="The wait before a restart; doubles with each in a row"
    )
    health_check_timeout_s: float = Field(
        3.0,
        ge=0.5,
        le=600,
        description="A worker without a sign of life, or without a new frame although it has "
        "work, for so long is hung: it is killed and started again",
    )
    start_timeout_s: float = Field(
        120.0, ge=0.1, le=3600, description="A worker must be ready so soon after its start"
    )


def _listed(value: Any) -> Any:
    """Let a worker be just its list of stages."""
    return {"stages": value} if isinstance(value, list) else value


Worker = Annotated[WorkerConfig, BeforeValidator(_listed)]


def worker_problems(document: Document) -> Iterator[Problem]:
    """Yield a line for everything that keeps `workers` from placing each stage once, in order."""
    data = document.data if isinstance(document.data, dict) else {}
    workers, stages = data.get("workers"), data.get("stages")
    # `workers: null`, or `--set workers=null`, says that one process is meant.
    if "supervision" in data and not {"workers", "instances"} & data.keys():
        text = (
            "nothing to supervise without 'workers:' or 'instances:'; add one of them, or remove "
            "it (supervision)"
        )
        yield Problem(document.where(("supervision",), key=True), text)
    if not isinstance(workers, dict) or not isinstance(stages, dict):
        return
    placed = list(_placed(workers))
    problems = list(_names(document, placed, list(stages)))
    # Where a worker is broken, or names what does not exist, the order says nothing.
    if not problems and workers and all(map(_is_readable, workers.values())):
        problems = [*_missing(document, placed, list(stages)), *_costs(document, workers)]
        problems = problems or list(_order(document, placed, list(stages)))
    yield from problems


def _placed(workers: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield where each placed stage stands, and its name; what is no text is told elsewhere."""
    for worker, item in workers.items():
        path: KeyPath = ("workers", worker)
        if isinstance(item, dict):
            item, path = item.get("stages"), (*path, "stages")
        for place, name in enumerate(item) if isinstance(item, list) else ():
            if isinstance(name, str):
                yield (*path, place), name


def _is_readable(item: Any) -> bool:
    stages = item.get("stages") if isinstance(item, dict) else item
    return isinstance(stages, list) and all(isinstance(name, str) for name in stages)


def _names(
    document: Document, placed: list[tuple[KeyPath, str]], stages: list[str]
) -> Iterator[Problem]:
    first: dict[str, KeyPath] = {}
    for path, name in placed:
        if name not in stages:
            hint = did_you_mean(name, stages, "the stages are")
            text = f"no stage is called {name!r}; {hint} ({dotted(path)})"
            yield Problem(document.where(path), text)
        elif name in first:
            text = (
                f"stage {name!r} is placed twice, first in worker {first[name][1]!r}; "
                f"remove one ({dotted(path)})"
            )
            yield Problem(document.where(path), text)
        else:
            first[name] = path


def _missing(
    document: Document, placed: list[tuple[KeyPath, str]], stages: list[str]
) -> Iterator[Problem]:
    names = [name for _, name in placed]
    absent = [name for name in stages if name not in names]
    if absent:
        where = document.where(("workers",), key=True)
        listed = ", ".join(map(repr, absent))
        yield Problem(where, f"no worker runs {listed}; place every stage once (workers)")


def _order(
    document: Document, placed: list[tuple[KeyPath, str]], stages: list[str]
) -> Iterator[Problem]:
    for (path, name), expected in zip(placed, stages, strict=False):
        if name != expected:
            text = (
                f"expected stage {expected!r} here, got {name!r}; workers take neighbouring "
                f"stages, in the order {', '.join(stages)} ({dotted(path)})"
            )
            yield Problem(document.where(path), text)
            return


def _costs(document: Document, workers: dict[str, Any]) -> Iterator[Problem]:
    for worker, item in workers.items():
        costs = item.get("costs_ms") if isinstance(item, dict) else None
        for name in costs if isinstance(costs, dict) else ():
            if name not in item["stages"]:
                path = ("workers", worker, "costs_ms", name)
                runs = ", ".join(item["stages"])
                text = f"worker {worker!r} does not run {name!r}; it runs {runs} ({dotted(path)})"
                yield Problem(document.where(path, key=True), text)
