"""Prompt templates: files in the folder `templates`, one for each prompt."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

FOLDER = Path(__file__).parent / "templates"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # plain text, no HTML
        trim_blocks=True,
        lstrip_blocks=True,
    )


def fill(template: str, **values: Any) -> str:
    """The template of that file name, rendered with `values`.

    Raises jinja2.UndefinedError if the template uses a value that is not given.
    """
    return _environment().get_template(template).render(values)
