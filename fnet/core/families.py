"""The families of layers: files of the same name in `fnet.layers` and `fnet.reference`, in the order of their lists."""

FAMILIES = (
    "combine",
    "dense",
    "conv",
    "pool",
    "shape",
    "norm",
    "recurrent",
    "attention",
    "embedding",
    "dropout",
    "activation",
    "transform",
)
