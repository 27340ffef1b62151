"""The supervisor's part in loading on demand: what one caller asks of one worker, all workers have.

Contract. A version is judged (admission, then a throwaway process, since a model that crashes its
runtime would take a worker with it) before any worker loads it, once however many workers ask.
The worker that asked hears how it ended. Nothing of it is remembered on the disk: a worker that
replaces another has none of these versions until somebody asks again.
"""

from __future__ import annotations

import asyncio
import logging

from interlock.apps.scorer.crew import Crew, Member
from interlock.base.errors import InterlockError
from interlock.decision.admin import Failed, failed
from interlock.serving.catalogue import Admitted
from interlock.serving.messages import AskVersion, DropVersion, LoadVersion, VersionSettled, frame
from interlock.serving.repository import Repository
from interlock.serving.trial import Trials
from interlock.settings import Settings

_log = logging.getLogger(__name__)
_DROP_S = 10.0


class Versions:
    """Carries out what workers ask for.

    Args:
        crew: the workers.
        checks: judges admissions.
        trials: tries bundles.
        settings: of the installation.
    """

    def __init__(self, crew: Crew, checks: Repository, trials: Trials, settings: Settings) -> None:
        self._crew = crew
        self._checks = checks
        self._trials = trials
        self._bundles = settings.places.bundles
        self._patience_s = settings.scoring.load_s + 1
        self._tried: set[str] = set()
        self._one_by_one = asyncio.Lock()

    async def settle(self, member: Member, word: AskVersion) -> None:
        """Carry it out in every worker, then tell the one that asked."""
        failure = None
        try:
            if word.drop:
                await self._crew.ask_all(lambda number: DropVersion(number, word.admitted), _DROP_S)
            else:
                await self._load(word.admitted)
        except InterlockError as error:
            failure = failed(error)
        except Exception as error:  # the caller must hear something
            _log.exception("a version could not be loaded on demand")
            failure = Failed("unreachable", f"loading failed ({type(error).__name__})", "read run/scorer.log")
        member.writer.write(frame(VersionSettled(word.number, failure)))

    async def _load(self, admitted: Admitted) -> None:
        async with self._one_by_one:
            await asyncio.to_thread(self._checks.check, admitted.service, admitted.bundle, admitted.folder)
            if admitted.bundle not in self._tried:
                await self._trials.run(self._bundles, admitted.bundle)
                self._tried.add(admitted.bundle)
            await self._crew.ask_all(lambda number: LoadVersion(number, admitted), self._patience_s)
