# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests/lab/run and tests/lab/mkinitramfs are made of."""
