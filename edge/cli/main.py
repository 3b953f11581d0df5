"""edge serve, edge check."""

from __future__ import annotations

import asyncio
import sys

import click

from edge import __version__
from edge.config import Config, config_from_options, load_config
from edge.errors import ConfigError
from edge.logs import setup
from edge.run.supervisor import Supervisor

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="edge")
def main() -> None:
    r"""An edge cache for video: serves segments from RAM, SSD and HDD, fills what it lacks from origins.

    \b
    In front of any origin, in one line:
        edge serve --origin http://127.0.0.1:9000 --listen 127.0.0.1:8080 --store /tmp/edge
    From a configuration file, checked first:
        edge check --config /etc/edge/edge.toml
        edge serve --config /etc/edge/edge.toml
    """


@main.command()
@click.option(
    "--config", "path", metavar="FILE", help="The configuration file; the options below are for use without one."
)
@click.option("--listen", metavar="ADDRESS", help="Where to serve players. [default: 127.0.0.1:8080]")
@click.option("--origin", metavar="URL", help="The origin to fill from, such as http://127.0.0.1:9000.")
@click.option("--store", metavar="DIR", help="A folder for the index and the cached objects; made where missing.")
@click.option("--ram", metavar="SIZE", help="Size of the RAM tier, kept on /dev/shm; 0 for none. [default: 512M]")
@click.option("--control", metavar="ADDRESS", help="Where to serve metrics and status. [default: 127.0.0.1:9900]")
@click.option(
    "--workers", metavar="N", type=click.IntRange(0, 256), help="Serving processes; 0 is one a core. [default: 0]"
)
def serve(
    path: str | None,
    listen: str | None,
    origin: str | None,
    store: str | None,
    ram: str | None,
    control: str | None,
    workers: int | None,
) -> None:
    """Run the cache, in the foreground, until SIGTERM or Ctrl-C.

    With --origin and --store and no file, any host name and any method are let through to the origin, and only what
    its answers allow is stored. Running transfers are finished before it ends, within limits.drain.
    """
    options = {"--listen": listen, "--origin": origin, "--store": store, "--ram": ram, "--control": control}
    given = [name for name, value in options.items() if value is not None] + (
        ["--workers"] if workers is not None else []
    )
    try:
        if path is not None:
            if given:
                raise click.UsageError(f"{given[0]} does not go with --config: write it in the file.")
            config = load_config(path)
        else:
            if origin is None or store is None:
                raise click.UsageError("give --config FILE, or --origin URL and --store DIR.")
            config = config_from_options(
                listen or "127.0.0.1:8080", origin, store, ram or "512M", control or "127.0.0.1:9900", workers or 0
            )
        setup(config.log.level, "supervisor")
        asyncio.run(Supervisor(config).run())
    except ConfigError as error:
        _tell(error)
        sys.exit(1)


@main.command()
@click.option("--config", "path", metavar="FILE", required=True, help="The configuration file.")
@click.option("--effective", is_flag=True, help="Print the configuration with every default filled in, as JSON.")
def check(path: str, effective: bool) -> None:
    """Check a configuration file. Opens nothing, changes nothing.

    Names every mistake with its key, what was found and what is allowed, and exits 1; exits 0 when there is none.
    """
    try:
        config: Config = load_config(path)
    except ConfigError as error:
        _tell(error)
        sys.exit(1)
    click.echo(config.model_dump_json(indent=2) if effective else f"{path}: ok")


def _tell(error: ConfigError) -> None:
    for mistake in error.mistakes:
        click.echo(f"edge: {mistake}", err=True)
