"""Measurements that people and pull requests can repeat: `make bench`, or `python -m tests.benchmarks [NAME...]`."""
