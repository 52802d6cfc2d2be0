"""Replies that cannot be used."""

from __future__ import annotations


class ReplyError(Exception):
    """A model's reply that breaks the protocol; the message says how, to it and to people.

    It never quotes the reply: what a server sends is of any length and may be anything.
    """
