"""The controller: the graph, its memory and store, the command line and the Python API."""
