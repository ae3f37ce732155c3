"""Operations become kernel state: namespaces, links, addresses, routes, rule sets.

`network.Network` is the way in.  Side effects on the kernel's network live
here and nowhere else; what runs inside a namespace belongs to `lab.runtime`,
and what a lab should look like to `lab.plan`.
"""
