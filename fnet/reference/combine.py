"""Containers by hand: the chain rule over their children."""

from fnet.reference.rule import Rule, rule_of


def _serial_forward(layer, given, x):
    """x_l = f_l(x_(l-1)) for l = 1 ... n; backward needs each child's cache."""
    caches = []
    for name, child in layer.children:
        x, cache = rule_of(child.kind).forward(child, given.child(name), x)
        caches.append(cache)
    return x, caches


def _serial_backward(layer, given, caches, g):
    """g_(l-1) = (df_l/dx_(l-1))^T g_l, from the last layer to the first: upstream times local gradient."""
    gradients = {}
    for (name, child), cache in zip(reversed(layer.children), reversed(caches), strict=True):
        g, of_child = rule_of(child.kind).backward(child, given.child(name), cache, g)
        if of_child:
            gradients[name] = of_child
    return g, gradients


serial = Rule(_serial_forward, _serial_backward)
