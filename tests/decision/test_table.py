import msgspec
import pytest

from interlock.base.errors import UsageError
from interlock.decision.table import BUCKETS, MAX_SEGMENTS, NOBODY, Arm, RouteTable, Segments, decode, encode

A, B, F = ("sha256:" + c * 64 for c in "abf")


def table(*arms: Arm, **fields: object) -> RouteTable:
    base = RouteTable(service="fraud", epoch=1, generation=1, arms=arms, salt="00" * 32)
    return msgspec.structs.replace(base, **fields)


def champion(*ranges: tuple[int, int]) -> Arm:
    return Arm("champion", A, F, "1.0.0", ranges)


def candidate(*ranges: tuple[int, int]) -> Arm:
    return Arm("candidate", B, F, "1.1.0", ranges)


def test_a_valid_table_survives_its_json() -> None:
    one = table(champion((1000, BUCKETS)), candidate((0, 1000)), lease_s=60.0, tau_ns=5, clears="latch-1")
    assert decode(encode(one.validate())) == one


def test_the_table_of_an_older_version_is_read_from_the_disk() -> None:
    older = (
        b'{"service":"fraud","epoch":1,"generation":1,"arms":[{"name":"champion","bundle":"%b","folder":"%b",'
        b'"version":"1.0.0","ranges":[[0,10000]]}],"salt":"%b","schema":1,"shadows":[],"sticky":"card","tau_ns":null,'
        b'"lease_s":null,"fallback":{"decision":"REVIEW"},"clears":null,"rollout":null}'
    )
    assert decode(older % (A.encode(), F.encode(), b"00" * 32)) == table(champion((0, BUCKETS)))


def test_segments_survive_their_json() -> None:
    one = table(champion((0, BUCKETS)), segments=Segments("country", {"FR": "fraud-fr", "NO": "fraud-nordic"}))
    assert decode(encode(one.validate())) == one


@pytest.mark.parametrize(
    ("field", "services", "word"),
    [
        ("ip", {"FR": "fraud-fr"}, "unknown field"),
        ("country", {}, "segments"),
        ("mcc", {f"{number:04d}": "other" for number in range(MAX_SEGMENTS + 1)}, "segments"),
        ("country", {"fr": "fraud-fr"}, "no country"),
        ("mcc", {"541": "groceries"}, "no mcc"),
        ("currency", {"EURO": "fraud-fr"}, "no currency"),
        ("country", {"FR": "../x"}, "no service name"),
        ("country", {"FR": "fraud"}, "itself"),
    ],
)
def test_segments_that_break_a_rule_are_refused(field: str, services: dict[str, str], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        table(champion((0, BUCKETS)), segments=Segments(field, services)).validate()


def test_owners_follow_the_ranges() -> None:
    owners = table(champion((1000, BUCKETS)), candidate((0, 1000))).owners()
    assert len(owners) == BUCKETS
    assert owners[999] == 1
    assert owners[1000] == 0
    assert owners.count(1) == 1000


def test_a_table_without_arms_leaves_everything_to_the_fallback() -> None:
    assert set(table().validate().owners()) == {NOBODY}


@pytest.mark.parametrize(
    ("arms", "word"),
    [
        ((champion((0, 5000)), candidate((5000, 9999))), "cover"),
        ((champion((1, BUCKETS)),), "cover"),
        ((champion(),), "cover"),
        ((champion((0, 6000)), candidate((5000, BUCKETS))), "overlap"),
        ((champion((0, 4000)), candidate((5000, BUCKETS))), "gap"),
        ((champion((0, 0), (0, BUCKETS)),), "range"),
        ((candidate((0, 5000)), champion((5000, BUCKETS))), "order"),
        ((champion((0, 5000)), champion((5000, BUCKETS))), "repeated"),
        ((Arm("third", A, F, "1.0.0", ((0, BUCKETS),)),), "name"),
        ((Arm("champion", "sha256:12", F, "1.0.0", ((0, BUCKETS),)),), "digest"),
    ],
)
def test_arms_that_break_a_rule_are_refused(arms: tuple[Arm, ...], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        table(*arms).validate()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"schema": 2}, "schema"),
        ({"service": "../x"}, "service"),
        ({"epoch": -1}, "epoch"),
        ({"generation": 0}, "generation"),
        ({"salt": "zz"}, "hexadecimal"),
        ({"salt": "00"}, "16 bytes"),
        ({"lease_s": 0.0}, "lease"),
        ({"lease_s": float("nan")}, "lease"),
        ({"tau_ns": 0}, "latency"),
        ({"shadows": (candidate((0, 1)),)}, "shadow"),
    ],
)
def test_a_head_that_breaks_a_rule_is_refused(fields: dict[str, object], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        table(champion((0, BUCKETS)), **fields).validate()


def test_bytes_that_are_no_table_are_refused() -> None:
    with pytest.raises(UsageError, match="no route table"):
        decode(b'{"service": 1}')


def test_only_one_arm_without_lease_and_shadow_is_settled() -> None:
    assert table(champion((0, BUCKETS)), candidate()).settled
    assert not table(champion((0, BUCKETS)), shadows=(candidate(),)).settled
    assert not table(champion((500, BUCKETS)), candidate((0, 500))).settled
    assert not table(champion((0, BUCKETS)), lease_s=60.0).settled


def standing(name: str = "shadow-1", bundle: str = B) -> Arm:
    return Arm(name, bundle, A, "0.9.0")


def test_a_standing_shadow_leaves_a_table_settled_and_rests_in_every_other() -> None:
    settled = table(champion((0, BUCKETS)), shadows=(standing(), standing("shadow-2", A)))
    assert settled.validate().settled
    assert decode(encode(settled)) == settled
    assert [arm.name for arm in settled.without(frozenset({B})).shadows] == ["shadow-2"]
    compared = table(champion((0, BUCKETS)), shadows=(candidate(),), lease_s=60.0)
    assert compared.without(frozenset({B})) == compared
    with pytest.raises(UsageError, match="unsettled"):
        table(champion((0, BUCKETS)), shadows=(standing(),), lease_s=60.0).validate()
    with pytest.raises(UsageError, match="unknown name among the arms"):
        table(msgspec.structs.replace(standing(), ranges=((0, BUCKETS),))).validate()


def test_later_tables_are_greater_by_epoch_before_generation() -> None:
    assert table(epoch=2, generation=1).order > table(epoch=1, generation=9).order


def test_bundles_include_shadows() -> None:
    assert table(champion((0, BUCKETS)), shadows=(candidate(),)).bundles == {A, B}
