import pytest

from interlock.base.errors import UsageError
from interlock.registry.version import parse


def test_versions_order_by_precedence() -> None:
    # The example of semver.org 2.0.0, item 11.
    texts = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    texts += ["1.0.0-rc.1", "1.0.0", "1.9.0", "1.10.0", "2.0.0"]
    assert sorted(reversed(texts), key=parse) == texts


@pytest.mark.parametrize("text", ["1", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0+build", "v1.0.0", "1.0.0\n", ""])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="semantic"):
        parse(text)
