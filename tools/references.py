"""The user's own functions, named as "module:function"."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any

from lm_searcher.spaces.errors import UserError


def resolve(reference: str, what: str, error: type[UserError]) -> Callable[..., Any]:
    """The function that "module:function" names.

    `what` begins the message of the `error` that is raised where there is no such module or
    function, or where the module does not import.
    """
    place = f"{what} '{reference}'"
    module, colon, name = reference.partition(":")
    if not (module and colon and name):
        raise error(f'{place}: accepted is "module:function"')
    try:
        function = pkgutil.resolve_name(reference)
    except (ImportError, SyntaxError) as reason:
        raise error(f"{place}: cannot import '{module}': {reason}") from reason
    except AttributeError as reason:
        raise error(f"{place}: {reason}") from reason
    except ValueError as reason:
        raise error(f'{place}: accepted is "module:function"') from reason
    if not callable(function):
        raise error(f"{place}: '{name}' is a {type(function).__name__}, not a function")
    found: Callable[..., Any] = function
    return found
