"""python -m lm_searcher.agent."""

from lm_searcher.agent.cli.app import main

main()
