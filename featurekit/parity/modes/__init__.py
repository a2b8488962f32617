"""The modes of a parity check: `fuzz`, `history`, `operators`, `replay` and `sample`, with what
they share beside them."""
