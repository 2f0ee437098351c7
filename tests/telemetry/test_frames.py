"""Which frames of a stream are missing: exact counts, whatever is lost, doubled or late."""

import pickle
import random

import pytest
from helpers import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from f1buf.telemetry.sources.game.gaps import LONGEST_GAP, FrameGaps

LATEST = 63  # others that a frame may come behind


def fed(*frames):
    gaps = FrameGaps()
    for frame in frames:
        gaps.add(frame)
    return gaps


@st.composite
def streams(draw):
    """Frames as they arrive, and how many between the first and the last never do.

    Of each 32 frames at least two neighbours arrive. None comes before the first.
    """
    step, first, count = draw(st.integers(1, 5)), draw(st.integers(0, 2**31)), draw(st.integers(2, 600))
    rng = random.Random(draw(st.integers(0, 2**32)))
    loss, late = draw(st.floats(0, 1)), draw(st.integers(0, LATEST))
    kept = [i for i in range(count) if i % 32 < 2 or i == count - 1 or rng.random() >= loss]
    doubled = kept + [i for i in kept if rng.random() < 0.1]
    # A frame is behind another by no more than `late` numbers, so behind no more than so many others.
    arriving = kept[:1] + sorted(doubled[1:], key=lambda i: i + rng.uniform(0, late))
    return [first + i * step for i in arriving], count - len(kept)


@settings(max_examples=examples(300))
@given(streams())
def test_what_is_missing_between_the_first_and_the_last_is_counted_exactly(stream):
    frames, missing = stream
    gaps = fed(*frames)
    assert gaps.lost == missing
    assert len(pickle.dumps(gaps)) < 2000  # bytes: it remembers 128 frames at most


@settings(max_examples=examples(100))
@given(st.lists(st.integers(0, 2**32 - 1) | st.integers(1000, 1100), max_size=300))
def test_any_numbers_do(frames):
    gaps = fed(*frames)
    assert 0 <= gaps.lost <= LONGEST_GAP * len(frames)
    assert len(pickle.dumps(gaps)) < 2000  # bytes: it remembers 128 frames at most


@pytest.mark.parametrize(
    ("frames", "lost"),
    [
        ([], 0),
        ([5], 0),
        ([5, 9], 0),  # perhaps only each fourth frame is sent
        ([5, 9, 10], 3),
        ([5, 6, 9], 2),
        ([5, 6, 9, 7, 7, 8], 0),
        ([5, 6, 6, 5, 8, 8], 1),
        ([5, 6, 3, 8], 1),  # what was before the first is not missed
        ([0, 3, 6, 12, 15], 1),
        ([0, 2, 5, 7, 10, 12], 0),  # each 2.4th frame
    ],
)
def test_small_streams(frames, lost):
    assert fed(*frames).lost == lost


@pytest.mark.parametrize("phase", range(130))
def test_how_late_a_frame_may_come(phase):
    late = 100 + phase
    others = [frame for frame in range(late + LATEST + 1) if frame != late]
    assert fed(*others).lost == 1
    assert fed(*others, late).lost == 0


@pytest.mark.parametrize("jump", [LONGEST_GAP + 1, -LONGEST_GAP - 1, 2**31])
def test_a_long_jump_is_no_loss(jump):
    gaps = fed(5000, 5001, 5003)
    for frame in (jump + 5003, jump + 5004, jump + 5006):
        gaps.add(frame % 2**32)
    assert gaps.lost == 2


def test_the_longest_gap_is_counted():
    assert fed(0, 1, 1 + LONGEST_GAP).lost == LONGEST_GAP - 1


def test_a_restart_is_no_loss():
    gaps = fed(1, 2, 4)
    gaps.restart()
    for frame in (100, 102, 104):  # every other is sent now
        gaps.add(frame)
    assert gaps.lost == 1


def test_the_step_is_learnt_anew():
    gaps = fed(*range(1000), *range(1000, 3000, 2))
    lost = gaps.lost
    assert lost <= 192  # until the last step of 1 is forgotten
    for frame in range(3000, 4000, 2):
        gaps.add(frame)
    assert gaps.lost == lost


def test_a_forged_frame_ahead_is_no_loss_once_the_others_have_come():
    gaps = fed(*range(100), 100 + 3000)
    assert gaps.lost == 3000
    for frame in range(100, 3300):
        gaps.add(frame)
    assert gaps.lost == 0
