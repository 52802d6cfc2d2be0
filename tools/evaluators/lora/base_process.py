"""The process that trains an embedded base and writes it whole.

Run as ``python -m lm_searcher.tools.evaluators.lora.base_process``; `base.BaseModel.make` does, and
writes what to train to its standard input. A failure's one line goes to the standard output.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lm_searcher.spaces.errors import EvaluatorError, UserError, one_line
from lm_searcher.tools.child_process import end_with_parent
from lm_searcher.tools.evaluators.lora.base import checksum_path
from lm_searcher.tools.files import unfinished, write_atomically
from lm_searcher.tools.importing import resolve

if TYPE_CHECKING:
    from torch import Tensor


def write(state: dict[str, Tensor], path: Path) -> None:
    """Write the weights to `path` and their checksum beside it. The caller holds the lock.

    The weights are written last, so that a base with weights is complete.
    """
    from safetensors.torch import save

    for part in (*unfinished(path), *unfinished(checksum_path(path))):  # of a killed process
        part.unlink(missing_ok=True)
    weights = save({name: t.detach().contiguous() for name, t in state.items()})
    digest = hashlib.sha256(weights).hexdigest()
    write_atomically(checksum_path(path), f"{digest}  {path.name}\n")
    write_atomically(path, weights)


def main() -> None:
    """Train and write what the standard input asks for; exit code 1 for what cannot be."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the controller reacts to Ctrl-C
    end_with_parent()
    request = json.load(sys.stdin)
    try:
        state = resolve(request["train"], "base", EvaluatorError)(**request["recipe"])
        write(state, Path(request["path"]))
    except (UserError, OSError) as error:
        print(one_line(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
