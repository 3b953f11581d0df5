"""Run the public tests for HTTP caches (npm package http-cache-tests, cache-tests.fyi) against the edge, or a peer."""

import sys

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtest.conformance.caches import KINDS, MissingError
from loadtest.conformance.install import InstallError, tools
from loadtest.conformance.results import KINDS as TEST_KINDS
from loadtest.conformance.results import Results
from loadtest.conformance.run import dump, run, started
from loadtest.processes import ProcessError

_HEADINGS = {"required": "required", "optimal": "optional", "check": "behaviour: yes"}


def _table(results: Results, title: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("section")
    for heading in _HEADINGS.values():
        table.add_column(heading, justify="right")
    table.add_column("not met (required), not done (optional), not tried")
    for section, name in results.names.items():
        counts = [_share(results, kind, section) for kind in TEST_KINDS]
        if not any(counts):
            continue
        notes = [f"[red]{test.id}[/red]" for test in results.broken() if test.section == section]
        notes += [f"[yellow]{test.id}[/yellow]" for test in results.unmet() if test.section == section]
        notes += [f"[dim]{test.id}[/dim]" for test in results.untried() if test.section == section]
        table.add_row(name, *counts, "\n".join(notes))
    table.add_section()
    table.add_row("all", *(_share(results, kind) for kind in TEST_KINDS), style="bold")
    return table


def _share(results: Results, kind: str, section: str | None = None) -> str:
    well, every = results.count(kind, section)
    return f"{well}/{every}" if every else ""


def _explain(results: Results, console: Console) -> None:
    kinds = (("required, not met", results.broken()), ("required, not tried", results.untried()),
             ("optional, not done", results.unmet()))  # fmt: skip
    for heading, tests in kinds:
        if tests:
            console.print(f"[bold]{heading}[/bold]")
        for test in tests:
            console.print(f"  {test.id}: {test.verdict}: {test.why}", markup=False, highlight=False, soft_wrap=True)


@click.command()
@click.option("--peer", "name", type=click.Choice([*KINDS]), default="edge", help="Another cache, where installed.")
@click.option("--id", "test", metavar="TEST", help="One test, with everything that is said.")
@click.option("--json", "as_json", is_flag=True, help="Every result as JSON on stdout.")
def main(name: str, test: str | None, as_json: bool) -> None:
    """Run the public tests for HTTP caches. Exits 1 if a requirement is not met."""
    console = Console(stderr=as_json)
    try:
        with started(tools(), KINDS[name]) as stack:
            if test is not None:
                sys.exit(dump(stack, test))
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, console=Console(stderr=True)) as shown:
                task = shown.add_task(name, total=None)
                results = run(stack, lambda done, total: shown.update(task, completed=done, total=total))
            title = f"{name} {stack.version}"
    except (InstallError, MissingError, ProcessError) as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(results.json())
    else:
        console.print(_table(results, title))
        _explain(results, console)
    sys.exit(bool(results.broken()))


if __name__ == "__main__":
    main()
