"""The scorer's rows: settings to adapters to what a worker and its supervisor run."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Executor
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from interlock.adapters.files.keys import token_key
from interlock.adapters.onnx.runtime import OnnxRuntime
from interlock.adapters.redis.online import RedisOnlineStore
from interlock.base.clock import Clock
from interlock.base.errors import RefusedError, UsageError
from interlock.decision.model import RuntimeFactory
from interlock.decision.segment import SegmentOptions, SegmentWriter
from interlock.features.definition import FRAUD, FeatureSet
from interlock.features.online import NoStore, OnlineStore
from interlock.privacy.token import Tokeniser
from interlock.registry.bundle import Bundle
from interlock.serving.catalogue import Catalogue
from interlock.serving.ondemand import OnDemand, Order
from interlock.serving.repository import Repository
from interlock.serving.surroundings import Surroundings
from interlock.settings import Settings, read_endpoints
from interlock.trust import admission
from interlock.trust.principal import Issuer

if TYPE_CHECKING:
    from interlock.adapters.oidc.verifier import Verifier
    from interlock.adapters.otlp.exporter import OtlpExporter


def repository(settings: Settings, clock: Clock) -> Repository:
    """Where this process's models live; admissions are judged under the home's trust root."""
    places, verify = settings.places, partial(_verify, settings)
    elsewhere = partial(_predictor, settings) if settings.scoring.mode == "features-only" else None
    if elsewhere is not None and settings.scoring.predictor_url is None:
        raise UsageError("features-only without a predictor", "set scoring.predictor_url, or another scoring.mode")
    return Repository(places.bundles, places.admissions, verify, OnnxRuntime.from_bytes, clock, elsewhere)


def _predictor(settings: Settings, bundle: Bundle) -> RuntimeFactory:
    """Has the bundle's model run by the predictor, which its golden vectors are then put to."""
    from interlock.adapters.kserve.predictor import PredictorRuntime  # the other modes need not load it

    options, named = settings.scoring, bundle.manifest
    version = str(named["version"]) if options.predictor_versions else ""

    def at(model: bytes, output: str) -> PredictorRuntime:
        wait_s = options.predictor_ms / 1000
        return PredictorRuntime(options.predictor_url or "", str(named["service"]), version, output, wait_s)

    return at


def on_demand(settings: Settings, around: Surroundings, loaders: Executor, order: Order) -> OnDemand:
    """This worker's versions that nothing routes to; `order` has one loaded in every worker."""
    places = settings.places
    catalogue = Catalogue(places.bundles, places.admissions, around.clock)
    return OnDemand(repository(settings, around.clock), catalogue, around, loaders, order)


def _verify(settings: Settings, data: bytes, service: str, bundle: str, folder: str) -> admission.Admission:
    # Read anew each time: accepting a governed change of the people file needs no restart.
    try:
        root = admission.TrustRoot.parse((settings.places.trust / "root.json").read_bytes())
    except FileNotFoundError as error:
        raise RefusedError(
            "this scorer has no trust root", "deploy trust/root.json, or `interlock release init`"
        ) from error
    return admission.verify(data, service, bundle, folder, root)


def recorder(settings: Settings, worker: str, clock: Clock) -> SegmentWriter:
    """The worker's segments."""
    options = settings.scoring
    return SegmentWriter(
        settings.places.segments, worker, clock.now_ns, SegmentOptions(options.segment_bytes, options.fsync == "tick")
    )


def tokeniser(settings: Settings) -> Tokeniser:
    """Makes tokens of card numbers at the edge."""
    return Tokeniser(token_key(settings.places.trust))


def store_url(settings: Settings) -> str:
    """The online store's address: from the settings, else of the embedded one that runs.

    Raises:
        UsageError: neither is known.
    """
    found = settings.store.url or read_endpoints(settings.home).get("store")
    if not found:
        raise UsageError("no online store is running", "start everything with `interlock up`, or set store.url")
    return found


def online_features() -> FeatureSet:
    """The feature set whose velocities the online store keeps."""
    return FRAUD


async def online_store(settings: Settings) -> OnlineStore:
    """The online store, which reconnects by itself; none where no transaction is decided."""
    if settings.scoring.mode == "tensors-only":
        return NoStore()
    return await RedisOnlineStore.connect(store_url(settings), online_features(), settings.store)


def span_sink(settings: Settings, worker: str) -> OtlpExporter | None:
    """Where a worker's spans go; None: nowhere, nothing is traced."""
    options = settings.scoring
    if options.otlp_url is None:
        return None
    from interlock.adapters.otlp.exporter import OtlpExporter  # a scorer that traces nothing need not load it

    resource = {
        "service.name": "interlock-scorer",
        "service.version": version("interlock"),
        "service.instance.id": worker,
    }
    return OtlpExporter(options.otlp_url, resource, options.trace_queue)


def token_verifier(settings: Settings, issuers: Collection[Issuer], before: Verifier | None) -> Verifier | None:
    """Verifies tokens of these issuers, with the keys that `before` holds; None when none is listed."""
    if not issuers:
        return None
    from interlock.adapters.oidc.verifier import Verifier  # a scorer without issuers need not load it

    return Verifier(issuers, settings.places.trust, before)
