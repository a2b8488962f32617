"""What the feature repos of tests have in common: their settings."""

CONFIG = """
project: tests
provider: local
online_store:
  type: redis
"""
