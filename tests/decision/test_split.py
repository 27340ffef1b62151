import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.base.errors import UsageError
from interlock.decision.split import bucket, weights
from interlock.decision.table import BUCKETS, Arm, RouteTable

A, B, F = ("sha256:" + c * 64 for c in "abf")
CHAMPION = Arm("champion", A, F, "1.0.0", ((0, BUCKETS),))
CANDIDATE = Arm("candidate", B, F, "1.1.0")

shares = st.integers(0, BUCKETS)


def owners(share: int) -> bytes:
    arms = weights(CHAMPION, CANDIDATE, share)
    return RouteTable(service="fraud", epoch=1, generation=1, arms=arms, salt="00" * 16).validate().owners()


@given(shares, shares)
def test_raising_a_weight_only_moves_entities_into_the_candidate(one: int, other: int) -> None:
    low, high = sorted((one, other))
    before, after = (np.frombuffer(owners(share), np.uint8) for share in (low, high))
    assert (after >= before).all()


@given(shares)
def test_shares_are_exact_and_the_ranges_cover(share: int) -> None:
    champion, candidate = weights(CHAMPION, CANDIDATE, share)
    assert owners(share).count(1) == share
    assert candidate.share == share / BUCKETS
    assert champion.share + candidate.share == pytest.approx(1.0)


def test_a_first_release_answers_everything() -> None:
    (only,) = weights(None, CANDIDATE, BUCKETS)
    assert only.ranges == ((0, BUCKETS),)
    with pytest.raises(UsageError, match="without a champion"):
        weights(None, CANDIDATE, 5000)


@pytest.mark.parametrize("share", [-1, BUCKETS + 1])
def test_an_impossible_share_is_refused(share: int) -> None:
    with pytest.raises(UsageError, match="share"):
        weights(CHAMPION, CANDIDATE, share)


@given(st.binary(min_size=16, max_size=64), st.text(max_size=40))
def test_a_bucket_is_the_published_formula(salt: bytes, token: str) -> None:
    mac = hmac.new(salt, token.encode(), hashlib.sha256).digest()
    assert bucket(salt, token) == int.from_bytes(mac[:8], "big") % 10_000


def test_buckets_are_spread_evenly_and_moved_by_the_salt() -> None:
    tokens = [hashlib.sha256(str(n).encode()).hexdigest()[:32] for n in range(20_000)]
    first = [bucket(b"a" * 32, token) for token in tokens]
    in_a_tenth = sum(value < 1000 for value in first)
    assert abs(in_a_tenth - 2000) < 250
    assert first != [bucket(b"b" * 32, token) for token in tokens]


def test_a_known_bucket_does_not_change() -> None:
    assert bucket(bytes(range(32)), "0123456789abcdef0123456789abcdef") == 1311  # by openssl dgst -mac HMAC
