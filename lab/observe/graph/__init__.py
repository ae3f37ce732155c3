"""Drawings of a plan: `svg` for people, `mermaid` for documents that render it.

`outline` says what is drawn (boxes with words, many alike folded into one),
`layout` where, `paint` and `diagram` how. Pure: a plan in, text out.
"""

from lab.observe.graph.diagram import mermaid
from lab.observe.graph.paint import svg

__all__ = ["mermaid", "svg"]
