"""Predictions: looks features up, forwards them to model servers, and answers with what these say.

`targets` says which model servers there are, and `routing` which of them answers for an entity.
`inputs` turns features into what a model server reads, `oip` and `invocations` each speak a
protocol, `protocols` is the table of these, and `asking` asks a server. `predict` puts them
together, and `logged` keeps what was predicted.
"""
