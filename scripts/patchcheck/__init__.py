# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts/check-patches is made of."""
