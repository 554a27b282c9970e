#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Show what the lab counted: boot.json as a table and, on request, as a page with a chart."""

import argparse
import json
import os
import sys
import tempfile

import report_model as model
import report_text
from labcore import python
from labcore.errors import LabError


def _no_duplicates(pairs):
    value = dict(pairs)
    if len(value) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise model.ReportError(f"{twice}: the key is there twice")
    return value


def load(path):
    """Read a report from a file. Every fault becomes a ReportError that begins with path."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream, object_pairs_hook=_no_duplicates)
        return model.parse(value)
    except OSError as error:
        raise model.ReportError(f"{path}: {error.strerror}") from error
    # RecursionError: brackets nested deeper than the decoder goes.
    except (ValueError, RecursionError) as error:
        raise model.ReportError(f"{path}: not JSON: {error}") from error
    except model.ReportError as error:
        raise model.ReportError(f"{path}: {error}") from error


def write_whole(path, text):
    """Write text to path, or leave path as it was: a reader never sees half a file."""
    folder = os.path.dirname(path) or "."
    temp = None
    try:
        handle, temp = tempfile.mkstemp(dir=folder, prefix=os.path.basename(path) + ".")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        # mkstemp makes files that only their owner reads; a report is for everybody.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temp, 0o666 & ~umask)
        os.replace(temp, path)
    except OSError as error:
        if temp and os.path.exists(temp):
            os.unlink(temp)
        raise model.ReportError(f"{path}: can't write: {error.strerror}") from error


def _html(report):
    # Only the chart needs matplotlib, so only --html asks for it.
    import report_html
    return report_html.render(report)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("json", metavar="BOOT.JSON", help="what a run of the lab wrote")
    parser.add_argument("--html", metavar="FILE",
                        help="also write a self-contained page with a chart")
    args = parser.parse_args(argv)
    try:
        # Whoever imports this module chose the Python already.
        if args.html is not None and argv is None:
            python.need("report_html")
        report = load(args.json)
        if args.html is not None:
            write_whole(args.html, _html(report))
    except (model.ReportError, LabError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    print(report_text.render(report), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
