"""How well predictions did, by what happened later."""
