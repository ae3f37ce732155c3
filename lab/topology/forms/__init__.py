"""The topology file as pydantic models: one class for each mapping in it, one module a concept.

A form holds what a person wrote, in base units, before presets, counts and
names are resolved (`lab.topology.loader` does that).  A field that is None was
not written.  Descriptions are what an editor shows: `lab.topology.jsonschema`
makes the JSON Schema of these classes.  What a form means does not live here.
"""
