# SPDX-License-Identifier: BSD-2-Clause
"""What the lab is made of; lab.py puts it together."""
