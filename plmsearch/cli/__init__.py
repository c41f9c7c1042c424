"""The command line: one small file per command; parse, one library call, print.

Data goes to standard output, everything else to standard error. Command files import the library
inside the command body, so that ``plmsearch --help`` loads neither torch nor faiss.
"""

from plmsearch.cli.app import main

__all__ = ["main"]
