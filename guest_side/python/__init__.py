# SPDX-License-Identifier: Apache-2.0
"""The fake BOINC library for Python programs in the guest, and what makes one file of it."""
