"""What writing beside the loop costs is told from the loop's own steps, and from nothing else."""

from supervisor.trainer.pace import Pace


class Loop:
    """Steps done and the seconds they took, as the run counts them."""

    def __init__(self):
        self.steps, self.seconds = 0, 0.0

    def run(self, steps, step_s):
        self.steps += steps
        self.seconds += steps * step_s

    def __call__(self):
        return self.steps, self.seconds


def test_steps_that_take_longer_while_a_checkpoint_is_written_are_counted():
    loop = Loop()
    pace = Pace(loop)
    loop.run(100, 0.01)
    pace.write_begins()
    loop.run(20, 0.015)
    assert round(pace.write_ended(), 6) == 0.1


def test_steps_that_take_no_longer_cost_nothing():
    loop = Loop()
    pace = Pace(loop)
    loop.run(100, 0.01)
    pace.write_begins()
    loop.run(20, 0.008)
    assert pace.write_ended() == 0.0


def test_too_few_steps_tell_nothing():
    loop = Loop()
    pace = Pace(loop)
    loop.run(2, 0.01)
    pace.write_begins()
    loop.run(50, 0.5)
    assert pace.write_ended() == 0.0
    loop.run(100, 0.01)
    pace.write_begins()
    loop.run(2, 0.5)
    assert pace.write_ended() == 0.0


def test_the_measure_is_the_time_since_the_write_before():
    loop = Loop()
    pace = Pace(loop)
    loop.run(100, 0.01)
    pace.write_begins()
    loop.run(10, 0.02)
    pace.write_ended()
    loop.run(100, 0.03)  # the script does more in a step from here on
    pace.write_begins()
    loop.run(10, 0.04)
    assert round(pace.write_ended(), 6) == 0.1


def test_a_save_that_training_waited_for_has_no_steps_beside_it():
    loop = Loop()
    pace = Pace(loop)
    loop.run(100, 0.01)
    assert pace.write_ended() == 0.0
