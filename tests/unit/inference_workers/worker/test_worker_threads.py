"""Which thread does what: texts are tokenised beside a batch that is computed, not before or after it."""

import json
import threading

from inference_workers.batching.compute import ComputeThread
from tests.fakes import FakeBroker, FakeClock
from tests.unit.inference_workers.stand_ins import FakeEngine, World

DEADLINE_SECONDS = 20.0


def ask(world, text):
    world.ask(json.dumps({"input": text}))


def test_texts_are_tokenised_while_the_model_computes_and_on_another_thread():
    tokenised, second_is_tokenised, threads = [], threading.Event(), set()

    class Standing(FakeEngine):
        """Its first batch takes until the second request's text is tokenised."""

        went_on = False

        def compute(self, items):
            threads.add(threading.current_thread())
            if self.calls == 0:
                self.began.set()
                self.went_on = second_is_tokenised.wait(DEADLINE_SECONDS)
            elif self.calls == 1:
                world.stop.set()
            return super().compute(items)

    engine = Standing()
    engine.began = threading.Event()
    clock = FakeClock()
    compute = ComputeThread(clock)

    def wait(seconds):
        clock.advance(seconds)
        compute.wait(0.001)

    world = World(engine, FakeBroker(clock), compute=compute, wait=wait)
    texts_of = world.servable.tokeniser.tokenise

    def tokenise(texts):
        tokenised.append(threading.current_thread())
        if engine.began.is_set():
            second_is_tokenised.set()
        return texts_of(texts)

    world.servable.tokeniser.tokenise = tokenise
    ask(world, "red shoes")
    world.at_poll = {10**6 - 50: lambda: engine.began.wait(DEADLINE_SECONDS) and ask(world, "blue hat")}
    world.run(polls=10**6)
    compute.close()
    assert engine.went_on, "the second request was not looked at while the first was computed"
    assert set(tokenised) == {threading.current_thread()}
    assert len(threads) == 1
    assert not threads & set(tokenised)
    assert len(world.predictions()) == 2
