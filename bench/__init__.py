"""Benchmarks: Slipway against a plain script, measured in pairs in one run on one host."""
