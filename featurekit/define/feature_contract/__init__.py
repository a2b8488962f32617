"""The feature contract of a model: what its training set promises that serving will give it.

It has nothing to do with the contracts of sources (`define/contracts`), which judge rows.
"""
