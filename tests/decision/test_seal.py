import pytest

from interlock.base.canonical import canonical
from interlock.base.errors import IntegrityError
from interlock.decision import seal
from interlock.decision.seal import Seal

ONE = Seal("0001-w0", 3, 12, 999, "sha256:" + "a" * 64, "b" * 64, 1_790_000_000_000_000_001, 1_790_000_000_000_000_009)


def test_a_seal_survives_its_file_and_its_event() -> None:
    assert seal.decode(seal.encode(ONE)) == ONE
    assert seal.of_body(seal.body(ONE)) == ONE


def test_the_body_of_the_event_has_a_canonical_form() -> None:
    assert b'"first_ns":"1790000000000000001"' in canonical(seal.body(ONE))


@pytest.mark.parametrize("data", [b"", b"{}", seal.encode(ONE).replace(b'"schema":1', b'"schema":2')])
def test_other_bytes_are_no_seal(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        seal.decode(data)
    with pytest.raises(IntegrityError):
        seal.of_body({"segment": 3})
