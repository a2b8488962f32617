"""Predictions: looks features up, forwards them to model servers, and answers with what these say.

`targets` says which model servers there are, and `routing` which of them answers for an entity.
`inputs` turns features into what a model server reads, `oip` speaks its protocol,
and `asking` asks it. `predict` puts them together, and `logged` keeps what was predicted.
"""
