"""`interlock release init`, `propose`, `check`, `trust`: the release repository from a person's side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.apps.cli.output import EXIT_FAILED, Output, emit, hint, lines, note, rows

if TYPE_CHECKING:
    from interlock.adapters.git.workspace import Workspace
    from interlock.apps.control.inspection import Report, Wrote
    from interlock.settings import Settings

_Repo = Annotated[Path, typer.Option("--repo", help="A working copy of the release repository.")]
_Author = Annotated[
    str | None, typer.Option("--author", help="Commit author as 'Name <mail>'; Git's own setting if not given.")
]
_Sign = Annotated[
    Path | None,
    typer.Option(
        "--sign", help="SSH key that signs the commit; Git's own (gpg.format ssh, user.signingkey) if not given."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Ask for a release, and check one.", rich_markup_mode=None)
    group.command()(init)
    group.command()(propose)
    group.command()(check)
    group.command()(trust)
    app.add_typer(group, name="release")


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder: the working copy.")],
    people: Annotated[Path, typer.Option(help="people.json: who may approve what, with their keys.")],
    tiers: Annotated[Path | None, typer.Option(help="policy/tiers.yaml; the default quorum if not given.")] = None,
    remote: Annotated[str | None, typer.Option(help="URL or path of the remote; a new path is made bare.")] = None,
    author: _Author = None,
    output: Output = "table",
) -> None:
    """Scaffold a release repository, and accept its people and policies into this home's trust root."""
    from importlib import metadata

    from interlock import settings
    from interlock.adapters.git.workspace import Workspace
    from interlock.apps.control import founding
    from interlock.rollout.propose import scaffold

    current = settings.load()
    named = people.read_bytes()
    policy = tiers.read_bytes() if tiers else founding.default_tiers()
    founding.check(named, policy)
    work = Workspace.create(folder, current.rollout.branch, _parsed(author))
    url = remote or str(folder.absolute())
    files = scaffold(named, policy, url, metadata.version("interlock"))
    if remote is not None:
        work.add_remote(remote)
    commit = work.commit(files, "Found the release repository")
    pushed = work.push()
    accepted = _accept(current, named, policy)
    data = {"folder": str(folder), "repository": _followed(url), "commit": commit, "pushed": pushed, **accepted}
    emit(output, data)
    if current.rollout.repository is None:
        hint(f"set rollout.repository: {data['repository']} in settings.yaml, then `interlock up`")


def propose(  # long: the options of one command
    service: Annotated[str, typer.Argument(help="The service to release.")],
    version: Annotated[str, typer.Argument(help="A registered version.")],
    repo: _Repo = Path(),
    policy: Annotated[Path | None, typer.Option(help="rollout.yaml to use; the default policy if not given.")] = None,
    author: _Author = None,
    sign: _Sign = None,
    output: Output = "table",
) -> None:
    """Write the manifests of a registered version on a branch `release/<service>-<version>`, in a signed commit."""
    from interlock import settings
    from interlock.adapters.git.workspace import Workspace
    from interlock.apps.control.client import ControlClient
    from interlock.apps.control.wishes import services_root
    from interlock.base.errors import UsageError
    from interlock.rollout.manifest import parse_release
    from interlock.rollout.propose import manifests, models

    current = settings.load()
    with ControlClient.open(current) as client:
        known = models([event.body for event in client.events(types=["model.registered"])])
        if (service, version) not in known:
            names = ", ".join(f"{s} {v}" for s, v in known) or "none"
            raise UsageError(f"{service} {version} is not registered", f"train it first; registered: {names}")
        text = policy.read_text(encoding="utf-8") if policy else None
        manifests(known[service, version], text)  # a wrong policy is refused before there is a branch
        work = Workspace(repo, _parsed(author), sign)
        branch = f"release/{service}-{version}"
        work.start_branch(branch, current.rollout.branch)
        root = f"{services_root(current.rollout.environment)}/{service}"
        # A new version takes over which segments other services decide: dropping that would change who decides.
        before = repo / root / "release.yaml"
        routing = parse_release(before.read_text(encoding="utf-8"), str(before)).routing if before.exists() else None
        files = manifests(known[service, version], text, routing=routing)
        commit = work.commit({f"{root}/{name}": data for name, data in files.items()}, f"Release {service} {version}")
        pushed = work.push(branch)
        _, folder = _folder(repo / root)
        client.append(_proposed(service, version, commit, folder, author))
    signed = work.signed(commit)
    emit(output, {"branch": branch, "commit": commit, "signed": signed, "folder": folder, "pushed": pushed})
    if not signed:
        hint("the commit is not signed, which the service's tier may ask for: propose it with --sign KEY")
    hint(
        f"interlock statement {service} --role technical > s.json, sign it, then `interlock approve s.json s.json.sig`"
    )


def check(
    repo: Annotated[Path, typer.Argument(metavar="[DIR]", help="A working copy of the release repository.")] = Path(),
    base: Annotated[
        str | None, typer.Option(help="Judge authors and signatures of the commits since this one, too (origin/main).")
    ] = None,
    output: Output = "table",
) -> None:
    """Judge every service as the controller will; this is what the repository's CI runs. Exit code 1: refused."""
    from interlock import settings
    from interlock.apps.control.inspection import inspect
    from interlock.base.clock import SystemClock
    from interlock.wiring import control

    current = settings.load()
    wrote = None if base is None else _since(control.working_copy(current, repo), base)
    problems, reports = inspect(repo, current.places.bundles, SystemClock().now_ns(), wrote)
    good = not problems and not any(report.problems for report in reports)
    data = {"ok": good, "problems": problems, "services": [report.plain() for report in reports]}
    emit(output, data, lambda: _checked(problems, reports))
    if not good:
        raise SystemExit(EXIT_FAILED)


def trust(
    repo: Annotated[Path, typer.Argument(metavar="[DIR]", help="A working copy of the release repository.")] = Path(),
    output: Output = "table",
) -> None:
    """Accept the people file and tier policy of a working copy into this home's trust root, after a governed change."""
    from interlock import settings

    people, tiers = (repo / "people.json").read_bytes(), (repo / "policy" / "tiers.yaml").read_bytes()
    emit(output, _accept(settings.load(), people, tiers))


def _accept(current: Settings, people: bytes, tiers: bytes) -> dict[str, Any]:
    """Accept both files, and record it."""
    import getpass

    from interlock.apps.control import founding
    from interlock.apps.control.client import ControlClient
    from interlock.base.canonical import digest_of
    from interlock.base.clock import SystemClock
    from interlock.trust.event import NewEvent
    from interlock.wiring import control

    root = founding.accept(current, control.log_verifier(current), people, tiers)
    body = {"people": digest_of(people), "tiers": digest_of(tiers), "root": digest_of(root.to_bytes())}
    with ControlClient.open(current) as client:
        client.append(
            NewEvent(
                time_ns=SystemClock().now_ns(),
                type="trust_root.changed",
                actor=getpass.getuser(),
                origin="cli",
                object="trust/root.json",
                outcome="success",
                body=body,
            )
        )
    return body


def _proposed(service: str, version: str, commit: str, folder: str, author: str | None) -> Any:
    import getpass

    from interlock.base.clock import SystemClock
    from interlock.trust.event import NewEvent

    return NewEvent(
        time_ns=SystemClock().now_ns(),
        type="release.proposed",
        actor=author or getpass.getuser(),
        origin="cli",
        object=f"service/{service}",
        outcome="success",
        body={"service": service, "version": version, "commit": commit, "folder": folder},
    )


def _folder(path: Path) -> tuple[list[Any], str]:
    """The files of a service folder in a working copy, and its digest."""
    from interlock.rollout.ports import SourceFile
    from interlock.trust.folder import folder_digest

    files = [
        SourceFile(
            file.relative_to(path).as_posix(), "100755" if file.stat().st_mode & 0o100 else "100644", file.read_bytes()
        )
        for file in sorted(path.rglob("*"))
        if file.is_file()
    ]
    return files, folder_digest([(file.path, file.mode, file.data) for file in files])


def _parsed(author: str | None) -> tuple[str, str] | None:
    from interlock.base.errors import UsageError

    if author is None:
        return None
    name, _, rest = author.partition(" <")
    if not name or not rest.endswith(">") or "@" not in rest:
        raise UsageError("not an author", "write --author 'Name <mail@example.org>'")
    return name, rest[:-1]


def _followed(url: str) -> str:
    return str(Path(url).absolute()) if Path(url).exists() else url


def _since(work: Workspace, base: str) -> Wrote:
    """The commits of the working copy since a base that wrote a folder."""
    here, since, source = work.resolve("HEAD"), work.resolve(base), work.source
    return lambda path: source.wrote(here, path, since)


def _checked(problems: list[str], reports: list[Report]) -> Any:
    for problem in problems:
        note(problem)
    if not reports:
        note("no service is asked for yet")
        return lines({"services": 0})
    body = []
    for each in reports:
        signed = ", ".join(f"{role}: {who}" for role, who in sorted(each.approved.items())) or "nobody"
        missing = f"; missing: {', '.join(each.missing)}" if each.missing else ""
        told = [*each.problems, *each.notes, *([each.frozen] if each.frozen else [])]
        what = (each.environment, each.service, each.version, each.bundle, each.commits, signed + missing)
        body.append((not each.problems, *what, "; ".join(told)))
    return rows(("ok", "environment", "service", "version", "bundle", "commits", "approved", "problems"), body)
