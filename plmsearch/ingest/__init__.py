"""From input rows to committed records.

`prepare` normalises and judges one row, `scan` reads an input whole before anything is embedded,
`resolve` decides what a row becomes (new, present, renamed, left out), `chunks` embeds and commits,
`report` says what happened.
"""
