"""Containers: layers made of layers."""

import jax

from fnet.description import Layer, Name, Parts, constructor, key_number, named, within


@constructor
def serial(*layers: Layer, name: Name = None) -> Parts:
    """Layers one after another: y = f_n(... f_2(f_1(x))).

    Children are named by counting per kind ("dense_1", "dense_2"), unless they have a name of their own. The key of a
    child is the container's with a stable hash of the child's name folded in, so that adding a layer changes no other
    layer's initial weights.

    Args:
        layers: the layers, first to last; none at all is the identity.
        name: replaces the counted name.

    Raises:
        ShapeError: from the first layer that cannot take what the one before it gives, with the path to it.
        ValueError: when two layers have the same name.

    >>> import jax, fnet
    >>> net = fnet.serial(fnet.flatten(), fnet.dense(4), fnet.relu(), fnet.dense(2))
    >>> params, state = net.init(jax.random.key(0), (3, 3))
    >>> {name: leaves["w"].shape for name, leaves in params.items()}
    {'dense_1': (9, 4), 'dense_2': (4, 2)}
    """
    children = named(layers)

    def shape(in_shape):
        for name, child in children:
            with within(name, child):
                in_shape = child.shape(in_shape)
        return in_shape

    def init(key, in_shape):
        params, state = {}, {}
        for name, child in children:
            with within(name, child):
                child_params, child_state = child.init(child_key(key, name), in_shape)
                in_shape = child.shape(in_shape)
            if child_params:
                params[name] = child_params
            if child_state:
                state[name] = child_state
        return params, state

    def apply(params, state, x, *, train, key=None, mask=None):
        new_state = {}
        for name, child in children:
            with within(name, child):
                x, child_state = child.apply(
                    params.get(name, {}),
                    state.get(name, {}),
                    x,
                    train=train,
                    key=child_key(key, name),
                    mask=mask,
                )
            if child_state:
                new_state[name] = child_state
        return x, new_state

    return Parts(shape, init, apply, children)


def child_key(key: jax.Array | None, name: str) -> jax.Array | None:
    """The random key of the child of this name."""
    return None if key is None else jax.random.fold_in(key, key_number(name))
