"""The online path: states in a store, their codec, and the stores themselves."""
