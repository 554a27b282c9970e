# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors that end a command with one clear line."""


class LabError(Exception):
    """What is wrong, with which value, and what would be accepted."""
