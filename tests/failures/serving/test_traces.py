"""A real scorer's spans reach a real collector; without one nothing but spans is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from tests.collecting import collector
from tests.failures.load import Load, transaction
from tests.failures.scorer_home import ScorerHome, get, scorer_home, until
from tritonclient import grpc as client

from interlock import settings
from interlock.features.definition import FRAUD

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def predict(home: ScorerHome, name: str, **headers: str) -> dict[str, Any]:
    connection = home.connection()
    body = json.dumps({"instances": [transaction(name, 1)]})
    connection.request("POST", "/v1/models/fraud:predict", body, {"content-type": "application/json", **headers})
    reply = connection.getresponse()
    assert reply.status == 200
    (found,) = json.loads(reply.read())["predictions"]
    return dict(found)


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def metric(home: ScorerHome, name: str) -> float:
    page = get(home.connection(), "/metrics")[1].decode()
    return sum(float(each) for each in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page, re.M))


def test_a_sampled_requests_spans_are_the_callers_children_over_every_protocol(tmp_path: Path) -> None:
    with collector() as made, scorer_home(tmp_path, otlp_url=made.url) as home:
        home.settle()
        told = predict(home, "sampled", traceparent=f"00-{TRACE}-{SPAN}-01")
        predict(home, "not-sampled", traceparent=f"00-{'a' * 32}-{SPAN}-00")
        predict(home, "no-trace")
        found = made.wait_for(5)
        server = next(each for each in found if each["kind"] == 2)
        assert (server["traceId"], server["parentSpanId"]) == (TRACE, SPAN)
        said = attributes(server)
        assert said["interlock.model_version"] == "1.0.0"
        assert said["interlock.decision_ids"]["values"] == [{"stringValue": told["decision_id"]}]
        assert said["http.response.status_code"] == "200"
        rest = [each for each in found if each is not server]
        assert [each["name"] for each in rest] == ["store", "model", "record", "reply"]
        assert {each["parentSpanId"] for each in rest} == {server["spanId"]}
        assert server["resource"]["service.name"] == {"stringValue": "interlock-scorer"}

        address = settings.read_endpoints(home.home)["grpc"]
        tensor = client.InferInput("input", [1, FRAUD.width], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, FRAUD.width), np.float32))
        with client.InferenceServerClient(address) as called:
            called.infer("fraud", [tensor], headers={"traceparent": f"00-{'b' * 32}-{SPAN}-01"})
        found = made.wait_for(9)[5:]
        assert {each["traceId"] for each in found} == {"b" * 32}
        server = next(each for each in found if each["kind"] == 2)
        assert server["parentSpanId"] == SPAN
        assert server["name"] == "inference.GRPCInferenceService/ModelInfer"
        assert [each["name"] for each in found if each is not server] == ["model", "record", "reply"]
        home.terminate()
        assert len(made.spans) == 9, "nothing of the two that were not sampled"


def test_what_waits_is_sent_when_the_scorer_stops(tmp_path: Path) -> None:
    with collector() as made, scorer_home(tmp_path, otlp_url=made.url, trace_ratio=1.0) as home:
        home.settle()
        home.ask([f"a{number}" for number in range(20)])
        assert home.terminate() == 0
        servers = [each for each in made.spans if each["kind"] == 2]
        assert len(servers) == 20
        assert len({each["traceId"] for each in servers}) == 20
        assert not any("parentSpanId" in each for each in servers), "these traces begin here"


def test_a_collector_that_is_away_costs_spans_and_no_request(tmp_path: Path) -> None:
    with collector() as gone:
        url = gone.url
    with scorer_home(tmp_path, otlp_url=url, trace_ratio=1.0, trace_queue=64) as home:
        home.settle()
        with Load(home.url, rate=200) as load:
            load.flows(400)
        assert load.failures == []
        assert load.degraded == 0
        until(lambda: metric(home, "interlock_spans_dropped_total") > 1_000, "what is lost is counted")


def test_workers_tell_what_they_cost_and_what_an_autoscaler_needs(tmp_path: Path) -> None:
    with scorer_home(tmp_path, workers=3, score_cache=1_000, cpu_hour_price=0.04) as home:
        home.settle()
        home.ask([f"a{number}" for number in range(60)])
        rows = ("interlock_model_seconds_count", "interlock_score_cache_hits_total")
        until(lambda: sum(metric(home, name) for name in rows) == 60, "every row was scored or known")
        spent = metric(home, "interlock_cpu_seconds_total")
        assert spent > 0.1
        assert metric(home, "interlock_cost_per_1000_decisions") > 0
        assert metric(home, "interlock_queue_length") == metric(home, "interlock_queue_age_seconds") == 0
        assert metric(home, "interlock_inflight") == 0, "a scrape is none"
        home.client.replace()
        until(lambda: metric(home, "interlock_cpu_seconds_total") > spent, "what ended workers spent stays")
