"""Streaming readers and writers. They know no database.

Input: `read.open_input` opens whatever it is given and yields `SequenceRecord`; behind it stand
`fasta`, `tables` (over `delimited` and `parquet`) and `airr`, all on the byte streams of
`compression`. Output: `hits.write_hits` writes rows in each of `hits.HIT_FORMATS`, to files of
`output.open_output`.

A reader yields sequences as given, not normalised, and ends early only with an error.
"""
