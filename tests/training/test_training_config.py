import pytest

from interlock.base.errors import UsageError
from interlock.training.config import parse

PLAIN = """
service: fraud
version: 1.1.0
user: ada
ticket: RISK-1
"""


def test_a_short_configuration_takes_the_stated_defaults() -> None:
    found = parse(PLAIN, "train.yaml")
    assert (found.purpose, found.trainer, found.thresholds.flag_budget) == ("candidate", {"name": "xgboost"}, 0.02)


def test_groups_and_the_trainer_are_read() -> None:
    found = parse(
        PLAIN + "trainer: {rounds: 30}\nsplit: {test_days: 2}\nthresholds: {from: 1.0.0, flag_factor: 10}\n",
        "train.yaml",
    )
    assert found.trainer == {"name": "xgboost", "rounds": 30}
    assert found.split.test_days == 2.0
    assert (found.thresholds.of, found.thresholds.flag_factor) == ("1.0.0", 10.0)
    assert found.to_json()["trainer"]["rounds"] == 30


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("colour: red", "train.yaml:6: unknown key colour"),
        ("gates: {min_auc: 1}", "train.yaml:6: unknown key gates.min_auc"),
        ("split: 3", "train.yaml:6: split is no mapping"),
        ("split: {test_days: long}", "train.yaml:6: split.test_days"),
        ("split: {test_days: 0}", "a period of the split"),
        ("split: {gap_days: -1.0}", "a period of the split"),
        ("purpose: fun", "unknown purpose"),
        ("rows: 0", "rows must be at least 1"),
        ("snapshot: {version: 1, file: a.csv}", "a file and a version"),
        ("thresholds: {flag_budget: 0.2, flag_factor: 10}", "shares do not fit"),
        ("thresholds: {decline_share: 0.9}", "shares do not fit"),
        ("seed: seven", "train.yaml:6: seed"),
        ("reasons: R01", "train.yaml:6: reasons"),
        ("reasons: [{code: 1}]", "train.yaml:6: reasons"),
    ],
)
def test_a_wrong_line_is_refused_and_named(line: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(PLAIN + line + "\n", "train.yaml")
    assert told in caught.value.message


@pytest.mark.parametrize("name", ["service", "version", "user", "ticket"])
def test_every_required_key_is_missed(name: str) -> None:
    text = "".join(line + "\n" for line in PLAIN.split("\n") if not line.startswith(name))
    with pytest.raises(UsageError, match=f"{name} is missing"):
        parse(text, "train.yaml")


def test_a_version_must_be_semantic() -> None:
    with pytest.raises(UsageError, match="semantic"):
        parse(PLAIN.replace("1.1.0", '"1.1"'), "train.yaml")


def test_reason_codes_are_read_as_plain_values() -> None:
    found = parse(PLAIN + "reasons: [{code: R01, text: Many payments, features: [card_count_1m]}]\n", "train.yaml")
    wanted = [{"code": "R01", "text": "Many payments", "features": ["card_count_1m"]}]
    assert found.reasons == wanted
    assert found.to_json()["reasons"] == wanted
    assert (parse(PLAIN, "train.yaml").reasons, found.top_reasons) == (None, 3)
