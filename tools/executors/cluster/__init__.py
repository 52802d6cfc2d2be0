"""Evaluations on a Ray cluster.

The controller has a `RayExecutor`, which talks to a process of its own, the `driver`: Ray ends the
process that uses it when the cluster has been gone for a minute, and writes to its stderr. The
driver has a `Place` for every place that the cluster has room for, each with a `Slot`: a detached
actor on a node, which wraps a local executor with one worker.

    controller  RayExecutor  --socket-->  driver  Pool, Places  --Ray-->  node  Slot, LocalExecutor
"""
