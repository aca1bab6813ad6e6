"""The objects of one push on their way from quarantine into the repository, and into the record of the push.

They move as late as may be: where no hook and no work tree looks at them in between, in the same call that changes the
refs, so that a small push goes to a thread and back once. Then nothing of a push that every rule refuses ever leaves
the quarantine. The `.keep` goes after the refs have moved.

Everything here blocks.
"""

from dataclasses import replace

from govc.errors import GovcError
from govc.odb.quarantine import KEEP_PREFIX, Migration, MigrationFailed, Quarantine
from govc.repo.journal import NO_OBJECTS, Journal, StagedObjects
from govc.repo.journal import NONE as NO_DURABILITY
from govc.repo.receiving import ReceiveResult
from govc.wal.errors import LogError


class NotMoved(GovcError):
    """The objects could not be made visible, or ready for the record: `reason` for the report of every command."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class PushedObjects:
    """What came with a push; nothing, without a quarantine."""

    def __init__(self, journal: Journal, quarantine: Quarantine | None, result: ReceiveResult | None) -> None:
        self._journal = journal
        self._quarantine = quarantine
        self._result = result
        self._migration: Migration | None = None
        self._staged = NO_OBJECTS

    @property
    def is_kept(self) -> bool:
        """They are in the repository, under a `.keep` that has to go."""
        return self._migration is not None

    def move(self) -> StagedObjects:
        """Publish the objects under a `.keep` that names us, once; return them for the record. Raises NotMoved."""
        if self._quarantine is not None and self._result is not None:
            try:
                self._move(self._quarantine, self._result)
            except (MigrationFailed, OSError) as error:
                raise NotMoved("unable to migrate objects to permanent storage", str(error)) from error
            except LogError as error:
                raise NotMoved(error.public_text, str(error)) from error
        return self._staged

    def _move(self, quarantine: Quarantine, result: ReceiveResult) -> None:
        """The record makes them durable, with what is in it. Loose ones that are too much for one are synced here."""
        self._quarantine = None
        options = self._journal.options
        syncs = quarantine.loose_bytes() > options.inline_bytes_max and options.durability != NO_DURABILITY
        message = f"{KEEP_PREFIX}{self._journal.log.owner.token.hex()}"
        self._migration = migration = quarantine.migrate(
            message,
            fsync=syncs,
            next_own_path=self._journal.next_lock_path,
            known_as=self._journal.log.owner.path_saying(f"{message}\n".encode("ascii")),
            break_dead=self._journal.break_dead,
        )
        if result.object_count and not (migration.pack_paths or result.is_unpacked):
            raise MigrationFailed("the pack is gone: something prunes the quarantine")
        self._staged = self._journal.stage_objects(replace(migration, loose_paths=()) if syncs else migration)

    def release(self) -> None:
        """Let the `.keep` go: the refs have moved, or never will."""
        migration, self._migration = self._migration, None
        if migration is not None:
            migration.release_keep()
