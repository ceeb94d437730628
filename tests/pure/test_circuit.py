"""The circuit breaker: opens after failures in a row, lets one call probe, closes on its success."""

from completions.calls.circuits import Circuits


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def opened(clock: Clock) -> Circuits:
    circuits = Circuits(failures_max=3, open_s=10, clock=clock)
    for _ in range(3):
        assert circuits.acquire("p")
        circuits.record_failure("p")
    return circuits


def test_it_opens_after_failures_in_a_row():
    circuits = opened(Clock())
    assert circuits.state("p") == "open"
    assert not circuits.acquire("p")
    assert circuits.retry_after_s("p") == 10


def test_a_success_in_between_starts_the_count_over():
    circuits = Circuits(failures_max=3, open_s=10, clock=Clock())
    failed, succeeded = circuits.record_failure, circuits.record_success
    for record in (failed, failed, succeeded, failed, failed):
        assert circuits.acquire("p")
        record("p")
    assert circuits.state("p") == "closed"


def test_providers_do_not_share_a_circuit():
    assert opened(Clock()).acquire("another")


def test_half_open_lets_one_call_through():
    clock = Clock()
    circuits = opened(clock)
    clock.now_s += 10
    assert circuits.state("p") == "half_open"
    assert circuits.acquire("p")
    assert not circuits.acquire("p")


def test_a_probe_that_succeeds_closes_it():
    clock = Clock()
    circuits = opened(clock)
    clock.now_s += 10
    circuits.acquire("p")
    circuits.record_success("p")
    assert circuits.state("p") == "closed"
    assert circuits.acquire("p")
    assert circuits.acquire("p")


def test_a_probe_that_fails_opens_it_again_for_the_whole_time():
    clock = Clock()
    circuits = opened(clock)
    clock.now_s += 10
    circuits.acquire("p")
    circuits.record_failure("p")
    clock.now_s += 9.9
    assert not circuits.acquire("p")
    clock.now_s += 0.1
    assert circuits.acquire("p")


def test_a_probe_that_told_nothing_leaves_room_for_the_next():
    clock = Clock()
    circuits = opened(clock)
    clock.now_s += 10
    circuits.acquire("p")
    circuits.release("p")
    assert circuits.acquire("p")


def test_a_probe_that_is_being_answered_lets_the_others_in():
    clock = Clock()
    circuits = opened(clock)
    clock.now_s += 10
    circuits.acquire("p")
    circuits.record_start("p")
    assert circuits.acquire("p")
    circuits.record_failure("p")
    assert circuits.state("p") == "open"
