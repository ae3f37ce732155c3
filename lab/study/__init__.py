"""Experiments: many attempts on one lab, each held against what is predicted.

What is run here talks to a lab as a person does, through its agent, and knows
nothing of namespaces or processes.
"""
