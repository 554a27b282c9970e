# SPDX-License-Identifier: GPL-2.0-or-later
"""What is asked of the whole series: checkpatch, sparse, kernel-doc, and its
selftests without a warning."""

import collections
import re

from series import Error

from . import style
from .builds import tidy

SPARSE = ("both", "i386")
MESSAGE = re.compile(r"^(?P<file>\S+\.[chS]):\d+:\d+: (?P<text>.*)$", re.M)
SELFTESTS = "tools/testing/selftests/kvm"


def before(work, configs):
    """Upstream's own sparse messages, to compare with."""
    for config in configs:
        if config.name in SPARSE:
            config.configure()
            name = config.work.memo("sparse") if config.work.before \
                else "sparse"
            known = config.memo.get(name, config.key())
            if known is None:
                print(f"  SPARSE   upstream, {config.name}", flush=True)
                known = sorted(sparse(config, "base").elements())
                config.memo.put(name, config.key(), known)
            config.sparse = collections.Counter(map(tuple, known))


def after(work, configs, report):
    for config in configs:
        if config.name in SPARSE:
            new = sparse(config, "series") - config.sparse
            report.verdict(f"sparse, {config.name}",
                           [f"{file}: {text}" for file, text in new.elements()])
    # Of a series by itself `scripts/upstream check` asks that.
    if not work.letter:
        style.checkpatch(work, report)
    kernel_doc(work, report)
    selftests(work, configs, report)


def sparse(config, log):
    """The messages, without their line numbers, and how often each came."""
    status, text = config.make(f"sparse-{log}", "prepare")
    if status == 0:
        status, text = config.make(f"sparse-{log}", "C=2", "CHECK=sparse",
                                   "arch/x86/kvm/")
    if status:
        raise Error(f"sparse, {config.name}: make ended with status {status}, "
                    f"see {config.work.logs}/{config.name}-sparse-{log}.log")
    return collections.Counter(
        (tidy(config.work, m["file"]), m["text"])
        for m in MESSAGE.finditer(text))


def kernel_doc(work, report):
    tool = next((t for t in ("scripts/kernel-doc", "tools/docs/kernel-doc")
                 if (work.src / t).exists()), None)
    if not tool:
        raise Error("this kernel has no kernel-doc in scripts/ or tools/docs/")
    for path in work.added():
        if path.startswith(("arch/", "virt/", "include/")) and \
                path.endswith((".c", ".h")):
            status, text = work.run("kernel-doc", work.src / tool, "-none",
                                    "-Wall", path)
            lines = [line for line in text.splitlines() if line]
            if status and not lines:
                lines = [f"{tool} ended with status {status}"]
            report.verdict(f"kernel-doc, {path}", lines)


def selftests(work, configs, report):
    tests = [p for p in work.added()
             if p.startswith(SELFTESTS + "/") and p.endswith("_test.c")]
    if not tests:
        return
    out = work.dir / "selftests"
    out.mkdir(exist_ok=True)
    status, text = work.run(
        "selftests", "make", "-C", work.src, f"O={out}/headers", "ARCH=x86_64",
        "HOSTCC=ccache gcc", "-j", work.jobs, "headers_install")
    if status:
        raise Error(f"headers_install: {text.strip()[-300:]}")
    headers = out / "headers/usr"
    for test in tests:
        name = test.removeprefix(SELFTESTS + "/").removesuffix(".c")
        for suffix in ("", ".o"):
            (out / (name + suffix)).unlink(missing_ok=True)
        status, text = work.run(
            "selftests", "make", "-C", work.src / SELFTESTS, "CC=ccache gcc",
            "ARCH=x86_64", f"OUTPUT={out}", f"INSTALL_HDR_PATH={headers}",
            f"KHDR_INCLUDES=-isystem {headers}/include",
            "EXTRA_CFLAGS=-Wall -Werror", "-j", work.jobs, out / name)
        lines = [line for line in text.splitlines()
                 if re.search(r"warning:|error:|\*\*\*", line)]
        report.verdict(f"compiles with -Wall -Werror, {name}",
                       lines if status or lines else [])
