"""The bundle: the folder that a project ships as one version of its application (docs/admins.md).

write      put it together
files      one file of it, and a name for it that no other content will ever have
modules    what of our own packages, and of those they need, goes into its zip
compiled   compile sources so that the same sources give the same bytes
archive    a zip whose bytes depend on nothing but what is put in
program    the main program, written for exactly these parts
version    version.xml, which tells the server about the files
folder     the folder, which appears whole or not at all
"""

from .write import Bundle, write_bundle

__all__ = ["Bundle", "write_bundle"]
