# SPDX-License-Identifier: GPL-2.0-or-later
"""This machine's own KVM: no emulator, no host to boot (see hosts/__init__.py).

labcore/native.py makes what the folder of a run holds.
"""

from labcore.machine import Machine


class Host:
    vendor = "native"
    emulator = ""
    # A second is one, and the runner reports each of them; what is left is how
    # much longer than an emulated host a busy machine may take.
    time_scale = 60
    time_out_scale = 3
    deterministic = False
    # Of others' VMs the console says nothing, and it is not the kernel's.
    tsc_check = False

    def __init__(self, options):
        self.machine = getattr(options, "machine", None) or Machine()
        self.runner = options.runner
        self.qemu = options.probed.version

    def cmdline(self):
        return []

    def prepare(self, boot):
        cpu = self.machine.cpuinfo().get("model name", "unknown processor")
        self.emulator = f"no emulator: {cpu}, {self.qemu}"

    def command(self, boot):
        return [self.runner, boot.dir]
