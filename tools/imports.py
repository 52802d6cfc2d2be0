"""The user's own functions, named in a file as "module:function"."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from lm_searcher.spaces.errors import EvaluatorError


def import_function(name: str, what: str) -> Callable[..., Any]:
    """The function that "module:function" names; the working directory is searched as well.

    Raises EvaluatorError in one line, whatever the import does.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise EvaluatorError(f"{what} '{name}'; accepted: \"module:function\"")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the module is the user's: anything may happen
        text = " ".join(str(error).split())
        raise EvaluatorError(
            f"{what} '{name}' does not import: {type(error).__name__}: {text}"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        near = ", ".join(n for n in vars(module) if callable(getattr(module, n)) and n[0] != "_")
        raise EvaluatorError(
            f"{what} '{name}': module '{module_name}' has no function '{attribute}' "
            f"(it has: {near or 'none'})"
        )
    found: Callable[..., Any] = function
    return found
