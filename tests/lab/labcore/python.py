# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python that configure checked, for programs that need more than the
standard library: PATH may have another one first."""

import importlib
import os
import sys

from .errors import LabError

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
# Set for the program that was started again: once is enough.
AGAIN = "PERENNIAL_PYTHON"


def configured():
    """The PYTHON of build/config.mk, or None."""
    try:
        with open(os.path.join(TOP, "build/config.mk"), encoding="utf-8") as f:
            for line in f:
                name, _, value = line.partition(":=")
                if name.strip() == "PYTHON":
                    return value.strip() or None
    except FileNotFoundError:
        pass
    return None


def need(module):
    """Import MODULE, or begin the program again with the configured Python.

    Called before anything is done.  LabError if that Python can't, either.
    """
    again = os.environ.pop(AGAIN, None)
    try:
        importlib.import_module(module)
        return
    # A package that is made for another Python fails in any way.
    except Exception as error:  # pylint: disable=broad-exception-caught
        why = f"{type(error).__name__}: {error}"
    python = configured()
    if python is None:
        raise LabError(f"{sys.executable} can't import {module} ({why}), and "
                       "build/config.mk names no other Python; run ./configure")
    if again:
        raise LabError(f"neither {again} nor {python}, the Python that "
                       f"configure checked, can import {module} ({why}); run "
                       "./configure")
    sys.stdout.flush()
    os.environ[AGAIN] = sys.executable
    try:
        os.execv(python, [python, *sys.argv])
    except OSError as error:
        raise LabError(f"{sys.executable} can't import {module} ({why}), and "
                       f"{python}, the Python that configure checked, does not "
                       f"start ({error.strerror}); run ./configure") from None
