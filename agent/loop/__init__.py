"""One pass of the search loop: selection, memory, stopping, confirmation, requests, signals."""
