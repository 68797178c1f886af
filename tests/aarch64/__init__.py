"""Tests with aarch64 guests: `make test-aarch64`, because they want another QEMU and another compiler."""
