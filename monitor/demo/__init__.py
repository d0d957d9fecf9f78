"""The demo: real digits through the real pipeline, told as it happens. Not part of the service."""
