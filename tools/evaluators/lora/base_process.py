"""The process that trains an embedded base and writes its file.

`base.BaseModel.make` runs it as ``python -m lm_searcher.tools.evaluators.lora.base_process``, with
the training function, the recipe and the path as JSON on the standard input. If the training
fails, the last line of the standard output is the reason.
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
    """Train and write the base of the request on stdin; exit code 1 if that fails."""
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
