"""End to end: the real BOINC client, unmodified, against a project server of our own on 127.0.0.1."""
