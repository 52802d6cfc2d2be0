"""Invalid replies of a model."""

from __future__ import annotations


class ReplyError(Exception):
    """A model's reply that breaks the protocol; the message explains it to model and user.

    The message never quotes the reply, which may have any length and content.
    """
