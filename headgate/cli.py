"""The command line: thin commands over :mod:`headgate.pipeline`.

Results go to standard output (with ``--json`` as one JSON document), everything else to
standard error. Exit codes: 0 done or pass, 1 fail, 2 bad usage or input, 3 inconclusive.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headgate import options, render
from headgate.errors import (
    HeadgateError,
    InputError,
    ParityError,
    RolloutError,
    ServingError,
)
from headgate.records import Outcome
from headgate.snippets import Language, snippet

if TYPE_CHECKING:
    from headgate.pipeline import Bundle

__all__ = ["app", "main"]

app = typer.Typer(
    name="headgate",
    help="From the model registry to live traffic, through a gate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_WRITABLE = "it must be writable: see its permissions, or set HEADGATE_HOME to a folder that is"
_REMEDY: dict[int | None, str] = {
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _WRITABLE),
    errno.ENOENT: "see what lies there; HEADGATE_HOME, if set, must be where a folder can be made",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some; `headgate prune` deletes old builds"),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), "a folder must be able to lie there"),
}
_FAILED = 1
_USAGE = 2
_OPTIONS: dict[str, Any] = {"root": None, "wait": True}


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("headgate"))
        raise typer.Exit


@app.callback()
def _options(
    root: Annotated[
        Path | None, typer.Option("--root", "-C", help="The bundle; by default here or above.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="HTTP port of the live service.")
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option("--grpc-port", min=0, max=65535, help="Its gRPC port; 0 for none."),
    ] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Fail at once where another command is at work.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    del version
    _OPTIONS.update(root=root, wait=not no_wait)
    if port is not None:
        os.environ["HEADGATE_PORT"] = str(port)
    if grpc_port is not None:
        os.environ["HEADGATE_GRPC_PORT"] = str(grpc_port)


def _bundle() -> Bundle:
    from headgate.config import find_root
    from headgate.pipeline import Bundle

    root: Path | None = _OPTIONS["root"]
    return Bundle(find_root(root), notify=render.say)


@app.command()
def train(
    models: Annotated[
        list[str] | None, typer.Argument(help="Registered names; all if none.")
    ] = None,
    script: Annotated[
        Path | None, typer.Option("--script", help="Run this instead of the room's train.py.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Train models, register them and pin the new versions in models.lock."""
    from headgate import pipeline

    bundle = _bundle()
    names = models or list(bundle.rooms)
    if script is not None and len(names) != 1:
        raise typer.BadParameter("--script goes with exactly one model")
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        render.show(
            [pipeline.train(bundle, name, script=script) for name in names], render.refs, json=json
        )


@app.command()
def models(json: options.Json = False) -> None:
    """List the registered versions of this bundle's models."""
    bundle = _bundle()
    found = {name: bundle.registry.versions(name) for name in bundle.rooms}
    render.show(found, render.versions, json=json)


@app.command()
def lock(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME[@VERSION]]...", help="All newest if none.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Pin registered versions in models.lock; review and commit the change."""
    from headgate import pipeline

    bundle = _bundle()
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        refs = []
        for model in models or []:
            name, at, version = model.partition("@")
            if not name or (at and not version):
                raise InputError(
                    f"names no {'version' if name else 'model'}",
                    where=repr(model),
                    remedy="write NAME@VERSION, or NAME for its newest",
                )
            refs.append(pipeline.pick(bundle, name, version))
        render.show(pipeline.lock(bundle, refs), render.refs, json=json)


@app.command()
def build(json: options.Json = False) -> None:
    """Package what models.lock pins and build the Bento."""
    from headgate import pipeline

    bundle = _bundle()
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        built = pipeline.build(bundle)
    render.show(
        {
            "tag": built.release.tag,
            "digest": built.release.digest,
            "new": built.new,
            "path": built.bento,
            "models": built.release.models,
        },
        render.built,
        json=json,
    )


@app.command()
def gate(
    release: options.Tag = None,
    profile: options.Profile = None,
    *,
    url: options.Url = None,
    against_url: options.Against = None,
    request: options.Request = None,
    header: options.Header = None,
    rate: options.Rate = 50,
    budget: options.Budget = 300,
    generators: options.Generators = 1,
    remote: options.Remote = 0,
    listen: options.Listen = "127.0.0.1:0",
    expect: options.Expect = options.SameOrShape.SHAPE,
    samples: options.SamplesFile = None,
    against_samples: options.AgainstSamples = None,
    p95_ms: options.P95 = None,
    p99_ms: options.P99 = None,
    max_error_rate: options.MaxErrorRate = 0.001,
    max_p95_ratio: options.MaxP95Ratio = 1.05,
    report: options.Report = None,
    json: options.Json = False,
) -> None:
    """Load-test a release and judge it; by default the newest build of models.lock.

    With --url it judges any HTTP endpoint that is posted JSON, and with --samples what something
    else has measured: no bundle, registry or settings are needed. `--json FILE` writes there then.
    """
    from headgate import pipeline

    if url is None and samples is None:
        if against_url is not None or against_samples is not None:
            raise typer.BadParameter("there is nothing to compare: give --url or --samples too")
        bundle = _bundle()
        if profile is not None:
            bundle.profile(profile)
        with bundle.exclusive(wait=_OPTIONS["wait"]):
            verdict = pipeline.gate(bundle, pipeline.find(bundle, release), profile)
        render.show(verdict, render.verdict, json=json)
        raise typer.Exit(render.EXIT[verdict.outcome])
    if profile is not None or (url and samples):
        raise typer.BadParameter("--profile, --url and --samples exclude each other")
    if expect is options.SameOrShape.SAME and against_url is None:
        raise typer.BadParameter("--expect same needs --against-url")
    file = Path(release) if release else None
    render.prepare(report, file, json=json)
    wanted = pipeline.Wanted(
        p95_ms=p95_ms,
        p99_ms=p99_ms,
        max_error_rate=max_error_rate,
        max_p95_ratio=max_p95_ratio,
    )
    if samples is not None:
        judged = pipeline.gate_samples(samples, against_samples, wanted)
    elif request is None:
        raise InputError("missing", where="--request", remedy="name a file with a JSON body")
    else:
        endpoint = pipeline.Endpoint(
            url=str(url),
            against=against_url,
            request=request,
            headers=tuple(header or ()),
            rate=rate,
            budget_s=budget,
            generators=generators,
            remote=remote,
            listen=listen,
            same=expect is options.SameOrShape.SAME,
        )
        judged = pipeline.gate_url(endpoint, wanted, render.say)
    render.judged(judged, report, file, json=json)
    raise typer.Exit(render.EXIT[judged.verdict.outcome])


@app.command()
def capacity(
    release: options.Tag = None,
    *,
    tune: options.Tune = False,
    for_rate: options.ForRate = None,
    budget: options.SizingBudget = None,
    rows: options.Rows = None,
    generators: options.Generators = 1,
    json: options.Json = False,
) -> None:
    """Find the highest rate at which a release keeps its promises here, and what that costs.

    All of its models are asked at once, each as often. Nothing that serves is touched.
    """
    from headgate import pipeline

    bundle = _bundle()
    how = pipeline.Sizing(
        tune=tune, for_rate=for_rate, budget_s=budget, rows=rows, generators=generators
    )
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        found = pipeline.size(bundle, pipeline.find(bundle, release), how)
    render.show(found, render.sized, json=json)
    if found.capacity.low is None:
        known = found.capacity.settled and found.capacity.high is not None
        raise typer.Exit(_FAILED if known else render.EXIT[Outcome.INCONCLUSIVE])


@app.command()
def promote(
    release: options.Tag = None, why: options.Why = "headgate promote", json: options.Json = False
) -> None:
    """Give a release that passed its gate the traffic."""
    from headgate import pipeline

    bundle = _bundle()
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        running = pipeline.promote(bundle, pipeline.find(bundle, release), why)
    render.show(running, render.running, json=json)


@app.command()
def rollback(
    release: options.Tag = None, why: options.Why = "headgate rollback", json: options.Json = False
) -> None:
    """Go back to the release before the live one, or to RELEASE, which was live once."""
    from headgate import pipeline

    bundle = _bundle()
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        running = pipeline.roll_back(bundle, release, why)
    render.show(running, render.running, json=json)


@app.command()
def up(json: options.Json = False) -> None:
    """Serve the live release: after a reboot, a crash or a `headgate down`."""
    from headgate import pipeline

    bundle = _bundle()
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        running = pipeline.up(bundle)
    render.show(running, render.running, json=json)


@app.command()
def down(json: options.Json = False) -> None:
    """Stop serving; what is live stays recorded, and `headgate up` serves it again."""
    bundle = _bundle()
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        stopped = bundle.platform.stop()
    render.show({"stopped": stopped}, render.stopped, json=json)


@app.command()
def status(json: options.Json = False) -> None:
    """Show what is live, what serves, and what the gate said of it."""
    from headgate import pipeline

    bundle = _bundle()
    render.show(pipeline.status(bundle), render.status, json=json)


@app.command()
def client(
    model: Annotated[str, typer.Argument(help="The registered name.")],
    lang: Annotated[Language, typer.Option("--lang", help="curl, python, js or grpcurl.")] = "curl",
    json: options.Json = False,
) -> None:
    """Print code that asks a model of what serves, ready for pasting."""
    from headgate import pipeline

    called = pipeline.callee(_bundle(), model)
    if not called.running:
        render.say("nothing serves there now: `headgate up`, or `headgate ship`")
    code = snippet(called, lang)
    found = {"model": model, "version": called.version, "release": called.release}
    render.show(
        {**found, "lang": lang, "running": called.running, "code": code},
        lambda _: typer.echo(code, nl=False),
        json=json,
    )


@app.command()
def history(
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 50,
    json: options.Json = False,
) -> None:
    """Replay what was gated, promoted and rolled back, by whom, when and why."""
    render.show(_bundle().registry.events()[-limit:], render.history, json=json)


@app.command()
def prune(
    keep: Annotated[
        int | None, typer.Option("--keep", min=1, help="Releases kept; see [store].")
    ] = None,
    json: options.Json = False,
) -> None:
    """Delete old releases from this machine, but not the live and the previous one."""
    from headgate import pipeline

    bundle = _bundle()
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        render.show(pipeline.prune(bundle, keep), render.pruned, json=json)


@app.command()
def doctor(json: options.Json = False) -> None:
    """Check what a bundle needs here: settings, registry, disk, port."""
    from headgate.config import find_root
    from headgate.doctor import examine

    root: Path | None = _OPTIONS["root"]
    found = examine(find_root(root))
    render.show(found, render.examined, json=json)
    raise typer.Exit(0 if all(item.ok for item in found) else _USAGE)


@app.command()
def serve(
    release: Annotated[
        str | None,
        typer.Argument(
            metavar="[BENTO]",
            help="A release's tag, or the folder of a Bento.",
            callback=options.not_empty,
        ),
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on.")] = None,
) -> None:
    """Serve a Bento in the foreground; by default the live release, else the newest build."""
    from headgate import pipeline

    raise typer.Exit(pipeline.serve(_bundle(), release, host=host))


@app.command()
def containerize(
    release: options.Tag = None,
    *,
    engine: options.Engine = None,
    image: options.ImageName = None,
    option: options.BuildOptions = None,
    no_try: options.NoTry = False,
    json: options.Json = False,
) -> None:
    """Build the image of a release, start it, and compare its predictions with the reference."""
    from headgate import pipeline

    bundle = _bundle()
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        made = pipeline.containerize(
            bundle, release, engine=engine, image=image, options=option or (), tries=not no_try
        )
    render.show(made, render.containerized, json=json)


@app.command()
def ship(profile: options.Profile = None, json: options.Json = False) -> None:
    """Train what has no version, build, gate, promote, and leave it serving."""
    from headgate import pipeline

    bundle = _bundle()
    with bundle.exclusive(wait=_OPTIONS["wait"]):
        shipped = pipeline.ship(bundle, profile)
    render.show(shipped, render.shipped, json=json)
    raise typer.Exit(render.EXIT[shipped.verdict.outcome])


def main() -> None:
    """Run the command line; every error ends in one line and an exit code, none in a traceback."""
    try:
        app()
    except (ParityError, RolloutError, ServingError) as error:
        _fail(error, _FAILED)
    except HeadgateError as error:
        _fail(error, _USAGE)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        remedy = _REMEDY.get(error.errno, "see what lies there") if place else ""
        _fail(HeadgateError(f"{place}{error.strerror or error}", remedy=remedy), _USAGE)


def _fail(error: Exception | str, code: int) -> None:
    if "--json" in sys.argv:
        render.print_json({"error": str(error)})
    render.say(f"headgate: {error}")
    sys.exit(code)
