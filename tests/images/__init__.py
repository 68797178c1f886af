"""Tests with a Debian system in the machine: `make images`, because its packages must be downloaded and installed."""
