"""What Prometheus scrapes of a lab: one module a source, each a function that yields families.

What is counted lives elsewhere (`attempts`, `sessions`, `health`, `counters`
beside this folder, and the ferry); here it only gets its names and its help.
"""
