"""Native ops in phases: what depends on what, and what runs once."""

from fastnn.lowering.builder import Buffer, NativeOp
from fastnn.lowering.schedule import schedule
from fastnn.lowering.signature import Parameter, Signature


def op(outputs, inputs, **more):
    names = [f"y{i}" for i in range(len(outputs))], [f"x{i}" for i in range(len(inputs))]
    form = Signature("op", *(tuple(map(Parameter, group)) for group in names), (), ())
    settings = {"stage": 0, "commit": False, "callback": None, "node": None, "flops": 0, "shapes": {}, **more}
    return NativeOp(form, 0, names[0] + names[1], [*outputs, *inputs], len(outputs), [], [], **settings)


def buffers(count):
    return [Buffer("arena", 64) for _ in range(count)]


def test_a_reader_comes_after_the_writer():
    given, a, b = Buffer("input", 64), *buffers(2)
    first, second = op([a], [given]), op([b], [a])
    assert schedule([first, second]) == [[first], [second]]


def test_what_does_not_depend_on_each_other_shares_a_phase():
    given, a, b = Buffer("input", 64), *buffers(2)
    first, second = op([a], [given]), op([b], [given])
    assert schedule([first, second]) == [[first, second]]


def test_a_writer_waits_for_the_readers_of_what_it_writes_over():
    given, a, b = Buffer("input", 64), *buffers(2)
    first, reader, writer = op([a], [given]), op([b], [a]), op([a], [given])
    assert schedule([first, reader, writer]) == [[first], [reader], [writer]]


def test_two_writers_of_one_buffer_keep_their_order():
    given, a = Buffer("input", 64), *buffers(1)
    first, second = op([a], [given]), op([a], [given])
    assert schedule([first, second]) == [[first], [second]]


def test_what_changes_memory_that_outlives_the_run_comes_last():
    given, state, a, b = Buffer("input", 64), Buffer("fixed", 64), *buffers(2)
    first, update, late = op([a], [given]), op([state], [given], commit=True), op([b], [a])
    assert schedule([update, first, late]) == [[first], [late], [update]]


def test_stages_follow_each_other():
    given, a, b = Buffer("input", 64), *buffers(2)
    forward, backward = op([a], [given]), op([b], [given], stage=1)
    assert schedule([backward, forward]) == [[forward], [backward]]


def test_what_depends_on_parameters_alone_is_prepared_right_before_its_reader():
    given, weights, a, b, c, packed = Buffer("input", 64), Buffer("fixed", 64), *buffers(4)
    ops = [op([a], [given]), op([b], [a]), pack := op([packed], [weights]), reader := op([c], [b, packed])]
    phases = schedule(ops)
    assert phases[1] == [ops[1], pack] and phases[2] == [reader]


def test_what_also_reads_other_things_runs_each_time():
    constant, array = Buffer("fixed", 64, constant=True), Buffer("fixed", 64)
    filled, a, b, c, d = buffers(5)
    ops = [
        op([filled], []),
        op([a], [constant]),
        op([b], [a, constant]),
        op([c], [filled, constant]),
        op([d], [b, array]),
    ]
    phases = schedule(ops)
    assert [o.constant for o in ops] == [False, True, True, False, False]
    assert phases[:2] == [[ops[1]], [ops[2]]]
