"""Mutants of issued credentials: every change that is not one of spelling must be refused.

`specimens` issues credentials in every format, `kinds` changes them, `meaning` (of JSON) and `containers` (of tokens
and pictures) say which changes change nothing, `trial` puts them before the verifier's own code and counts. The long
run: `python -m tests.mutants --count 100000`.
"""
