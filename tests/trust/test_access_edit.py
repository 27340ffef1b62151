"""Keys are added to and taken from the access file without touching what people wrote around them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.doorkeeper import LATER, access_file, key, key_entry

from interlock.base.errors import RefusedError, UsageError
from interlock.trust import access_edit
from interlock.trust.access import Access
from interlock.trust.access_file import timestamp
from interlock.trust.principal import KeyGrant


def grant(number: int, *roles: str, services: frozenset[str] | None = None) -> KeyGrant:
    made, until = key(number), timestamp(LATER)
    assert until is not None
    return KeyGrant(made.id, f"shop{number}", made.digest, frozenset(roles or ("score",)), services, until)


def test_the_first_key_founds_a_file_that_denies_everybody_else() -> None:
    access = Access.parse(access_edit.with_key(None, grant(1)))
    assert list(access.keys.values()) == [grant(1)]
    assert access.anonymous.roles == frozenset()


HAND = """\
# Reviewed on Mondays.
apiVersion: interlock.dev/v1alpha1
kind: Access
spec:
    keys:   # ours
      # the shop's
      - id: "kaaaa"
        name: shop
        sha256: "ABAB"
        roles: [score]      # not explain!
        services: all
        expires: 2099-01-01T00:00:00Z

      - {id: kbbbb, name: till, sha256: "CDCD", roles: [score], services: [fraud], expires: 2099-01-01T00:00:00Z}
    anonymous: {roles: [observe]}
""".replace("ABAB", "ab" * 32).replace("CDCD", "cd" * 32)


def test_a_key_comes_and_goes_and_the_file_is_as_it_was() -> None:
    more = access_edit.with_key(HAND.encode(), grant(1))
    assert set(Access.parse(more).keys) == {"kaaaa", "kbbbb", key(1).id}
    assert access_edit.without_key(more, key(1).id) == HAND.encode()


def test_comments_outlive_an_edit() -> None:
    left = access_edit.without_key(HAND.encode(), "kaaaa").decode()
    assert "kaaaa" not in left
    for kept in ("# Reviewed on Mondays.", "# ours", "# the shop's", "kbbbb", "roles: [observe]"):
        assert kept in left
    assert list(Access.parse(left.encode()).keys) == ["kbbbb"]


@pytest.mark.parametrize("first", ["kaaaa", "kbbbb"])
def test_the_last_key_leaves_an_empty_list(first: str) -> None:
    data = HAND.encode()
    for name in (first, *({"kaaaa", "kbbbb"} - {first})):
        data = access_edit.without_key(data, name)
    assert Access.parse(data).keys == {}
    assert Access.parse(access_edit.with_key(data, grant(2))).keys[key(2).id] == grant(2)


def test_a_file_without_keys_gets_its_first() -> None:
    data = b"apiVersion: interlock.dev/v1alpha1\nkind: Access\nspec:\n    anonymous: {roles: [score]}\n"
    access = Access.parse(access_edit.with_key(data, grant(1)))
    assert access.keys == {key(1).id: grant(1)}
    assert access.anonymous.roles == {"score"}


def test_a_layout_that_is_not_understood_is_an_error_and_no_loss() -> None:
    flow = access_file(keys=[key_entry(1), key_entry(2)])
    with pytest.raises(UsageError, match="edited safely"):
        access_edit.without_key(flow, key(1).id)
    with pytest.raises(UsageError, match="edited safely"):
        access_edit.with_key(flow, grant(3))


def test_what_the_key_itself_lacks_is_said() -> None:
    with pytest.raises(UsageError, match="unknown role"):
        access_edit.with_key(HAND.encode(), grant(1, "boss"))
    with pytest.raises(UsageError, match="no list of names"):
        access_edit.with_key(None, grant(1, services=frozenset({"a b"})))


def test_an_id_is_there_once_and_one_that_is_not_there_is_refused() -> None:
    more = access_edit.with_key(HAND.encode(), grant(1))
    with pytest.raises(UsageError, match="already"):
        access_edit.with_key(more, grant(1))
    with pytest.raises(RefusedError, match="no key of that id"):
        access_edit.without_key(HAND.encode(), key(1).id)


@settings(max_examples=20)  # strict YAML is read four times a step
@given(st.lists(st.integers(0, 4), max_size=8))
def test_any_order_of_grants_and_revocations_leaves_those_that_were_not_revoked(steps: list[int]) -> None:
    data: bytes = HAND.encode()
    wanted: dict[str, KeyGrant] = dict(Access.parse(data).keys)
    for number in steps:
        name = key(number).id
        if name in wanted:
            data = access_edit.without_key(data, name)
            del wanted[name]
        else:
            data = access_edit.with_key(data, grant(number, services=frozenset({"fraud"}) if number % 2 else None))
            wanted[name] = grant(number, services=frozenset({"fraud"}) if number % 2 else None)
    assert Access.parse(data).keys == wanted
