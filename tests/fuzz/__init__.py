"""What reads bytes of others, fed with bytes that nobody sends.

`targets` has one function for each reader: it raises for a fault and returns
for everything else.  `guided` lets a coverage-guided fuzzer (atheris) search
with it; `corpus/<target>` keeps what was interesting, one file an input, which
`test_corpus` reads again in every run of the tests.
"""
