"""Make the pictures of the README: docs/images/live.svg and docs/images/report.png.

    python docs/images/make.py [--browser chromium]

A search of 40 trials on the table that comes with the package, which trains nothing. The browser,
Chromium or Chrome, takes the picture of the report.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console

from lm_searcher.agent import Search
from lm_searcher.agent.results.live import LiveView
from lm_searcher.agent.results.report import write_report
from lm_searcher.spaces.history import Trial, TrialState

HERE = Path(__file__).resolve().parent
EXAMPLE = "examples/front-nb201.toml"
TRIALS, SHOWN = 40, 30
"""The budget, and the trials done when the terminal is drawn."""
WIDTH, HEIGHT = 1040, 1440
"""The part of the report that is shown, in pixels."""


def main() -> None:
    """Run the search, draw the terminal on the way and the report at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", default="chromium", help="Chromium or Chrome.")
    browser = parser.parse_args().browser
    with tempfile.TemporaryDirectory() as folder:
        settings = {"budget": {"trials": TRIALS}, "run": {"folder": folder}}
        search = Search.from_file(HERE.parents[1] / EXAMPLE, overrides=settings)
        console = Console(
            record=True, file=io.StringIO(), force_terminal=True, width=96, markup=False
        )
        title = f"front-nb201: {search.problem.space.name}, local"
        view = LiveView(console, title, search.problem.objectives, TRIALS)

        def observe(event: Trial | str) -> None:
            view(event)
            running = isinstance(event, Trial) and event.state is TrialState.RUNNING
            if running and view.done == SHOWN:
                console.print(f"$ lm-searcher run {EXAMPLE} --trials {TRIALS}", highlight=False)
                console.print(view.render())

        search.observe = observe
        result = search.run()
        drawn = console.export_svg(title="lm-searcher", unique_id="live")
        # Without the fonts that rich would load from the network.
        drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
        (HERE / "live.svg").write_text(drawn)
        page = Path(folder) / "report.html"
        write_report(result, page)
        screenshot(browser, page, HERE / "report.png")


def screenshot(browser: str, page: Path, picture: Path) -> None:
    """Draw the upper part of a page. Raises CalledProcessError if the browser fails."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    flags += [f"--window-size={WIDTH},{HEIGHT}", "--virtual-time-budget=10000"]
    command = [browser, *flags, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    main()
