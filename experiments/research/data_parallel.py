"""One training step on two devices, in two ways, both equal to the step on one device.

1. `jax.shard_map` of the step with `axis_name`: each device computes its part of the batch, and gradients are summed.
2. `jax.jit` of the ordinary step, given a batch that is divided over the devices: XLA inserts the sums.

Batch normalization computes its statistics over the whole batch in both. The devices are two parts of the CPU here;
without the setting `jax_num_cpu_devices`, they are those that JAX finds.

Source: Dean et al., "Large scale distributed deep networks" (2012).
"""

import jax
import jax.numpy as jnp
import optax
from checking import check
from jax.sharding import NamedSharding, PartitionSpec
from sklearn.datasets import load_digits

import fnet
from fnet.train import Batch, init_state, make_step

jax.config.update("jax_num_cpu_devices", 2)  # before the first use of a device

digits = load_digits()
batch = Batch(jnp.asarray(digits.data[:64] / 16, "float32"), jnp.asarray(digits.target[:64]), jnp.arange(64) < 50)
net = fnet.serial(fnet.dense(32, bias=False), fnet.batch_norm(axis_name="data"), fnet.relu(), fnet.dense(10))
optimizer = optax.adam(1e-2)
start = init_state(net, optimizer, jax.random.key(0), (64,))

mesh = jax.make_mesh((jax.device_count(),), ("data",))
equal, divided = PartitionSpec(), PartitionSpec("data")
step = make_step(net, "cross_entropy", optimizer)
step_of_a_part = make_step(net, "cross_entropy", optimizer, axis_name="data")


def after_three_steps(step, train_state, batch):
    """Return parameters and statistics after three steps, and the loss before the third."""
    compiled = jax.jit(step)
    for _ in range(3):
        train_state, metrics = compiled(train_state, batch)
    return train_state.params, train_state.state, metrics.loss


on_mesh = jax.device_put(start, NamedSharding(mesh, equal)), jax.device_put(batch, NamedSharding(mesh, divided))
real = [int(part.data.sum()) for part in on_mesh[1].mask.addressable_shards]
print(f"{len(real)} devices, with {' and '.join(map(str, real))} real examples")
expected = after_three_steps(step, start, batch)

mapped = jax.shard_map(step_of_a_part, mesh=mesh, in_specs=(equal, divided), out_specs=equal)
check("shard_map", after_three_steps(mapped, *on_mesh), expected, tolerance=1e-5)
check("jit of a divided batch", after_three_steps(step, *on_mesh), expected, tolerance=1e-5)
