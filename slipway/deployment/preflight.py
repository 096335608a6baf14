"""The checks before anything is changed: what may be deployed here, and which release a request means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from slipway.base.errors import RefusedError
from slipway.base.settings import Settings
from slipway.records import deployment, journal, manifest, versions
from slipway.records.deployment import Request
from slipway.release import build, fit, git
from slipway.schema import database, mariadb, migrate
from slipway.slot import cutover, envfile, slots, systemd


def check_request(settings: Settings, request: Request) -> None:
    """RefusedError when the environment does not accept such a version, or its tag was moved since it was deployed."""
    if settings.accept != "commits" and request.tag is None:
        raise RefusedError(
            f"{settings.environment} deploys tags only (accept: {settings.accept}); "
            f"create a tag for commit {request.sha[:12]} and deploy that."
        )
    if request.tag is not None and not versions.is_tag(request.tag):
        raise RefusedError(f"'{request.tag}' is not a valid name of a tag.")
    if not git.is_sha(request.sha):
        raise RefusedError(f"'{request.sha}' is not a full commit; pass all 40 hex digits.")
    if request.tag is None or request.force:
        return
    if was := journal.moved_from(journal.read(settings.journal), request.tag, request.sha):
        raise RefusedError(
            f"The tag {request.tag} was commit {was[:12]} when it was last deployed, and is {request.sha[:12]} now. "
            "Create a new tag, or pass -e force=true if it was moved on purpose."
        )


def check_signature(settings: Settings, request: Request) -> None:
    """RefusedError if the environment accepts signed tags only, and no allowed signer has signed the tag."""
    if settings.accept != "signed-tags":
        return
    if request.tag is None:
        raise RefusedError(f"{request.version} has no tag, and {settings.environment} accepts signed tags only.")
    if problem := _signature_problem(settings, request.tag):
        raise RefusedError(
            f"The tag '{request.tag}' is not signed by anyone in {settings.allowed_signers}. "
            "Sign it with `git tag -s`, or add the signer to the app's 'allowed_signers'.",
            problem,
        )


def _signature_problem(settings: Settings, tag: str) -> str:
    return git.signature_problem(build.repository(settings), tag, Path(settings.allowed_signers))


def needs_bundle(settings: Settings, request: Request) -> bool:
    """Whether the commit has to be sent: the host does not have it, or has the tag without a valid signature."""
    if not build.has_commit(settings, request.sha, request.tag):
        return True
    signed = settings.accept != "signed-tags" or request.tag is None or not _signature_problem(settings, request.tag)
    return not signed


def check_host(settings: Settings) -> str | None:
    """Check that the host can take a release (variables, disk space, its database); the revision of the database.

    RefusedError or FailedError that says what is wrong.
    """
    cutover.check_environment(settings)
    build.check_space(settings)
    if settings.database != "postgresql":
        mariadb.check(settings)
        return None
    live = slots.live_release(settings)
    release = manifest.read(settings.release(live)) if live else None
    if settings.migrates == "alembic" and release is not None and release.revisions is None:
        database.check(settings, envfile.of_migrations(settings))
        return None  # an app without alembic
    table = release.version_table if release is not None else ""
    return database.current_revision(settings, envfile.of_migrations(settings), table)


@dataclass(frozen=True)
class Schema:
    """The revision of the database (None: it was never migrated), and whether an earlier release needs a downgrade."""

    revision: str | None = None
    must_go_back: bool = False

    @property
    def goes_back_from(self) -> str | None:
        """The revision to downgrade from; None when the schema can stay."""
        return self.revision if self.must_go_back else None


def check_schema(settings: Settings, release: manifest.Manifest, allow_data_loss: bool) -> Schema:
    """Where the database's schema is, and whether it must be downgraded for `release` to run on it.

    RefusedError when a downgrade is needed and `allow_data_loss` is not set, or when it is not possible.
    """
    if reason := migrate.stays(settings):
        if allow_data_loss:
            raise RefusedError(
                f"A rollback never changes the schema here, as {reason}. Leave out -e allow_data_loss=true, and change "
                f"the schema by hand if {release.version} cannot run on it."
            )
        return Schema()
    if release.revisions is None:
        return Schema()
    current, _ = migrate.pending(settings, release)
    reason = migrate.obstacle(settings, release, current)
    if not reason:
        return Schema(current)
    if not allow_data_loss:
        raise RefusedError(
            f"{reason} Roll back to a version that can, or pass -e allow_data_loss=true: then the database is dumped "
            f"and its schema is downgraded to {', '.join(release.heads)}, which deletes data."
        )
    migrate.check_downgrade(settings, release)
    return Schema(current, must_go_back=True)


def nothing_to_do(settings: Settings, request: Request) -> str:
    """Why a deploy of the request would change nothing; "" if it would change something."""
    live = slots.live_slot(settings)
    if live is None or request.force or slots.live_release(settings) != request.release:
        return ""
    if deployment.load(settings.deployment) is not None:
        return ""  # the release may be live, but an interrupted deployment must be finished or undone
    if slots.inputs_changed(settings, live) or systemd.state(settings.app, live).active != "active":
        return ""
    release = manifest.read(settings.release(request.release))
    if release is None or fit.misfit(settings, release) or cutover.why_no_answer(settings, live):
        return ""
    return f"{request.version} is live already, with the same settings."


def rollback_target(settings: Settings, request: Request, version: str) -> Request:
    """The release to roll back to: that of a tag or commit, or (version "") the one before the live one.

    RefusedError when there is none, or it was never live on this host.
    """
    entries = journal.read(settings.journal)
    if version:
        found = journal.find(entries, version)
        if found is None:
            known = ", ".join(item.tag or item.sha[:12] for item in reversed(journal.deployed(entries)[-5:]))
            raise RefusedError(
                f"{version} was never live on this host, so it cannot be rolled back to "
                f"(live before: {known or 'nothing'}). Use deploy.yml for it."
            )
    else:
        live = slots.live_release(settings)
        found = journal.previous(entries, live) if live else None
        if found is None:
            raise RefusedError("There is no release before the live one to roll back to.")
    return replace(request, sha=found.sha, tag=found.tag)
