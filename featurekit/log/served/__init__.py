"""The serving log: what lookups were asked and what they answered, for `featurekit parity replay`.

`log` takes what was served and hands it to a thread. `parquet` and `stream` are where it goes;
`block` is the form in which it goes there and comes back.
"""
