# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated hosts that the lab can boot.

A host is a module here with one class, Host, that fulfils this contract (all
of it is used by tests/lab/run and by nothing else):

    class Host:
        vendor = "amd"            # what --host takes; "AMD"/"Intel" in CPUID
        emulator = "..."          # set by prepare(): name and version, for the report
        time_scale = 60           # CPU seconds that one virtual second may take
        time_out_scale = 1        # optional; > 1 where virtual time is real time
        deterministic = True      # may guest_ns be compared exactly?
        tsc_check = True          # fail on KVM's "TSC rate below hardware speed"

        def __init__(self, options):
            options: argparse namespace of tests/lab/run; a host reads
            options.qemu (emulator binary), options.firmware (folder), ...
            Raises lab.LabError("one clear message") if something is missing.

        def cmdline(self):
            list of words for the host kernel's command line
            (console=, nokaslr, tsc=..., never lab.*)

        def prepare(self, boot):
            makes what the emulator needs (config, CD image) in boot.dir

        def command(self, boot):
            the emulator's argv; the exact thing that `run replay` prints

        environment(self)         # optional: dict laid over os.environ

`boot` is one host boot:
    boot.dir        folder of this run (absolute, exists, emptied by the runner)
    boot.kernel     bzImage
    boot.initramfs  the whole initramfs of this run, plan included
    boot.cmdline    the whole command line, as one string
    boot.memory     host RAM in MiB
    boot.console    file that must receive the host's ttyS0
    boot.verdict    file that must receive the host's ttyS1
The runner starts command() as its own child with stdin from /dev/null and
stdout+stderr to boot.dir/emulator.log, follows the two files while they grow,
ends its child by pid on a time-out, and judges only what stands in the files.
The emulator must exit by itself when the host powers off or reboots.
"""
