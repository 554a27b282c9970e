# SPDX-License-Identifier: GPL-2.0-or-later
"""Find what a package brought, wherever in its tree it put it."""

import os

from .errors import LabError


def find_file(folder, name, option):
    """The first file called NAME below FOLDER.

    If there is none: an error that names OPTION, or None without an OPTION.
    """
    for top, folders, files in os.walk(folder):
        folders.sort()
        if name in files:
            return os.path.join(top, name)
    if option:
        raise LabError(f"{option} {folder}: no {name} below it")
    return None
