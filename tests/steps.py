"""Steps of a training run that take no time, for tests of what is around them."""

import time

import paddle

from SCFNet import engine
from SCFNet.training.state import Step


def skim(monkeypatch, before=lambda run: None):
    """Let a step add its loss, the mean of its images in [0, 1], to a bias, and do nothing else.

    `before` is called with the run before each step.
    """

    def learn(run, batch, lr):
        before(run)
        run.step += 1
        loss = batch[0].mean() / 255
        run.net.linear2.bias.set_value(run.net.linear2.bias + loss)
        return Step(paddle.stack([loss] * 5), run.step, lr, len(batch[0]), time.time())

    monkeypatch.setattr(engine, "learn", learn)
