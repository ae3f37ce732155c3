"""What can connect two nodes, from the declared behaviour of a plan alone.

`middlebox` knows what one NAT or firewall does to a packet, `network` carries
packets through a plan's middleboxes, `techniques` acts out each technique on
it, `reasons` puts what stopped a packet into words, and `pairs` has the rule
of thumb for two facing NATs in closed form.

Everything here is pure and knows no kernel, no clock and no socket.  It has a
room of its own beside `lab.plan` because it is an independent opinion: it
shares the vocabulary of RFC 4787 with the rule sets and nothing else, so that
`lab connect`, `lab matrix` and the tests can hold the two against each other.
"""

from lab.predict.finding import Finding
from lab.predict.prediction import Prediction, contradictions, predict

__all__ = ["Finding", "Prediction", "contradictions", "predict"]
