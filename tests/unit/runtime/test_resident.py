"""A program kept running between questions: whatever happens to it, a question gets its own answer or an error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from ml2sc.runtime.resident import Resident, StoppedError

PROGRAM = """
import os, sys, time
while length := sys.stdin.buffer.readline():
    question = sys.stdin.buffer.read(int(length)).decode()
    if question == "end":
        sys.exit("I was told to")
    if question == "chatter":
        print("hello", flush=True)
        continue
    if question == "half":
        print("100\\nhalf", flush=True)
        break
    if question == "slow":
        time.sleep(60)
    answer = f"{os.getpid()} {question}".encode()
    sys.stdout.buffer.write(b"%d\\n" % len(answer) + answer)
    sys.stdout.buffer.flush()
    if question == "last":
        break
"""


@pytest.fixture
def resident(tmp_path: Path) -> Resident:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    return Resident((sys.executable, str(program)), {})


@pytest.fixture
def ask(resident: Resident) -> Callable[[str], int]:
    """A function that asks, compares the answer and returns who gave it."""

    def asked(question: str) -> int:
        process, answer = resident.ask(question).split(" ", 1)
        assert answer == question
        return int(process)

    return asked


Ask = Callable[[str], int]


def test_one_process_answers_all(ask: Ask) -> None:
    assert len({ask(question) for question in ("a", "", "two\nlines", "·−" * 100_000)}) == 1


def test_one_that_ended_between_questions_is_started_again(ask: Ask) -> None:
    assert ask("last") != ask("next")
    os.kill(process := ask("killed next"), signal.SIGKILL)
    assert ask("next") != process


@pytest.mark.parametrize("question", ["end", "chatter", "half"])
def test_no_answer_is_an_error_and_costs_the_next_question_nothing(question: str, resident: Resident, ask: Ask) -> None:
    for _ in range(2):  # of a process that has answered, and of a fresh one
        with pytest.raises(StoppedError) as caught:
            resident.ask(question)
        assert ("I was told to" in caught.value.stderr) == (question == "end")
    ask("next")


def test_an_interrupted_question_leaves_no_answer_behind(ask: Ask) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = ask("before")
    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            ask("slow")
    finally:
        signal.signal(signal.SIGALRM, former)
    assert ask("next") != before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_fork_asks_one_of_its_own(ask: Ask) -> None:
    ours = ask("before")
    child = os.fork()
    if child == 0:  # pytest must not go on here
        os._exit(0 if ask("in the fork") != ours else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask("after") == ours


def test_what_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        Resident((str(tmp_path / "nowhere"),), {}).ask("")
