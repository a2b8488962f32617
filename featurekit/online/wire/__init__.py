"""Turns rows and answers into bytes that processes send to each other, and back."""
