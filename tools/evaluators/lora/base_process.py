"""The process that trains an embedded base and writes it whole.

Run as ``python -m lm_searcher.tools.evaluators.lora.base_process``; `base.BaseModel.make` does, and
writes what to train to its standard input. A failure's one line goes to the standard output.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lm_searcher.spaces.errors import EvaluatorError, UserError
from lm_searcher.tools.evaluators.lora.base import checksum, checksum_path
from lm_searcher.tools.executors.worker import PR_SET_PDEATHSIG
from lm_searcher.tools.importing import resolve

if TYPE_CHECKING:
    from torch import Tensor


def write(state: dict[str, Tensor], path: Path) -> None:
    """The weights at `path`, with their checksum. The weights come last: where they are, all is."""
    from safetensors.torch import save_file

    prefix = f".{path.stem}-"
    for left in path.parent.glob(f"{prefix}*"):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=prefix) as folder:
        weights, digest = Path(folder) / path.name, Path(folder) / "sha256"
        save_file({name: t.detach().contiguous() for name, t in state.items()}, weights)
        digest.write_text(f"{checksum(weights)}  {path.name}\n", encoding="ascii")
        os.replace(digest, checksum_path(path))
        os.replace(weights, path)


def main() -> None:
    """Train and write what the standard input asks for; exit code 1 for what cannot be."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the controller's to answer
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    request = json.load(sys.stdin)
    try:
        state = resolve(request["train"], "base", EvaluatorError)(**request["recipe"])
        write(state, Path(request["path"]))
    except (UserError, OSError) as error:
        print(" ".join(str(error).split()))
        sys.exit(1)


if __name__ == "__main__":
    main()
