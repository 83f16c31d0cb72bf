"""`summarize`: output shapes, parameters and FLOPs of every layer, counted by hand."""

import fnet
from fnet.report.summary import summarize


def test_a_convolutional_network_by_hand():
    """A 3x3 kernel from 2 to 4 channels on 6x5 pixels without padding: 4x3 positions of 18 products each."""
    net = fnet.serial(fnet.conv(4, 3, padding="valid"), fnet.flatten(), fnet.dense(5))
    total, conv, flatten, dense = summarize(net, (6, 5, 2))
    assert [row.out_shape for row in (conv, flatten, dense)] == [(4, 3, 4), (48,), (5,)]
    assert [row.parameters for row in (conv, flatten, dense)] == [3 * 3 * 2 * 4 + 4, 0, 48 * 5 + 5]
    assert total.parameters == conv.parameters + dense.parameters
    assert dense.flops == 2 * 48 * 5 + 5
    assert conv.flops >= 2 * 18 * 4 * 4 * 3


def test_containers_and_composites_count_what_is_inside():
    rows = {row.path: row for row in summarize(fnet.serial(fnet.repeat(fnet.dense(3), times=2)), (3,))}
    assert rows[("repeat_1",)].parameters == 2 * (3 * 3 + 3)
    assert rows[("repeat_1", "serial_2", "dense_1")].out_shape == (3,)
    assert rows[("repeat_1",)].layer == "repeat  times=2"


def test_a_network_of_indices():
    net = fnet.serial(fnet.embedding(6, 3, std=1.0), fnet.gru(4), fnet.dense(5))
    rows = summarize(net, (4,))
    assert [(row.out_shape, row.parameters) for row in rows[1:]] == [((4, 3), 18), ((4, 4), 96), ((4, 5), 25)]


def test_the_flops_of_a_loop_are_those_of_all_repetitions():
    unrolled, loop = (
        summarize(fnet.serial(fnet.repeat(fnet.dense(4), times=5, scan=scan)), (4,))[0] for scan in (False, True)
    )
    assert loop.flops == unrolled.flops
    assert loop.parameters == unrolled.parameters
