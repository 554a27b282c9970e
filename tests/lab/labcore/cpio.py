# SPDX-License-Identifier: GPL-2.0-or-later
"""Write an initramfs: newc cpio, the same bytes for the same input; look into one."""

import os
import stat


class Archive:
    """Entries are written in the order of their names, with no time stamps."""

    def __init__(self):
        self._entries = {}

    def directory(self, path):
        path = path.strip("/")
        if path and path not in self._entries:
            self.directory(os.path.dirname(path))
            self._entries[path] = (stat.S_IFDIR | 0o755, b"", 0)

    def file(self, path, data, mode=0o644):
        path = path.strip("/")
        self.directory(os.path.dirname(path))
        self._entries[path] = (stat.S_IFREG | mode, data, 0)

    def symlink(self, path, target):
        path = path.strip("/")
        self.directory(os.path.dirname(path))
        self._entries[path] = (stat.S_IFLNK | 0o777, target.encode(), 0)

    def console(self):
        """/dev/console, which the kernel opens before init mounts anything."""
        self.directory("dev")
        self._entries["dev/console"] = (stat.S_IFCHR | 0o600, b"", (5, 1))

    def names(self):
        return sorted(self._entries)

    def bytes(self):
        parts = []
        for number, name in enumerate(sorted(self._entries), 1):
            mode, data, device = self._entries[name]
            parts.append(_record(number, name, mode, data, device))
        parts.append(_record(0, "TRAILER!!!", 0, b"", 0))
        blob = b"".join(parts)
        return blob + b"\0" * (-len(blob) % 512)


def member(blob, name):
    """The content of a file, or None: the last one if there are several."""
    found, at = None, 0
    while blob[at:at + 6] == b"070701":
        size, names = (int(blob[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in (6, 11))
        data = at + 110 + names + (-(110 + names) % 4)
        path = blob[at + 110:at + 110 + names - 1].decode()
        if path == name:
            found = blob[data:data + size]
        at = data + size + (-size % 4)
        if path == "TRAILER!!!":
            at += -at % 512
    return found


def _record(number, name, mode, data, device):
    major, minor = device or (0, 0)
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0,
              major, minor, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields)
    head += name.encode() + b"\0"
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)
