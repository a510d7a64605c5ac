"""`inferwatch docs`: write the generated reference pages."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from infra.settings_check import application_settings

DOCS = Path(__file__).resolve().parent.parent / "docs"


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit 1 when a page is stale.")
def docs(check: bool) -> None:
    """Write docs/schemas, docs/asyncapi.json and the pages of topics, tables, metrics and settings.

    \b
    Example:
      inferwatch docs --check
    """
    from infra.documents import pages, write

    settings = application_settings()
    if check:
        stale = [
            name
            for name, text in pages(settings).items()
            if not (DOCS / name).exists() or (DOCS / name).read_text() != text
        ]
        for name in stale:
            click.echo(f"stale: docs/{name} (run `make docs`)")
        sys.exit(1 if stale else 0)
    for path in write(DOCS, settings):
        click.echo(f"wrote {path}")
