"""Import of the user's own functions, given as "module:function"."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

from lm_searcher.spaces.errors import UserError, one_line


def resolve(reference: str, what: str, error: type[UserError]) -> Callable[..., Any]:
    """Import the function "module:function"; the working directory is searched too.

    Raises `error`, with a message that begins with `what`, if there is no such module or function
    or if the module does not import.
    """
    place = f"{what} '{reference}'"
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise error(f'{place}: accepted is "module:function"')
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        function = pkgutil.resolve_name(reference)
    except AttributeError as reason:
        raise error(f"{place}: {reason}") from reason
    except (Exception, SystemExit) as reason:  # the user's module may raise anything
        kind = "" if isinstance(reason, ImportError) else f"{type(reason).__name__}: "
        raise error(f"{place}: cannot import '{module}': {kind}{one_line(reason)}") from reason
    if not callable(function):
        raise error(f"{place}: '{name}' is a {type(function).__name__}, not a function")
    found: Callable[..., Any] = function
    return found
