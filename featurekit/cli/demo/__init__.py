"""The example shop, from its events to a proof that both paths agree."""
