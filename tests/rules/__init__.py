"""A direct, readable test of each rule of docs/rules.md, a file per section."""
