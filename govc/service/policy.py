"""Who may use which service, and which ref updates a repository's own settings forbid.

The rules and the words are git's: http-backend's for the services, receive-pack's `update()` for the refs.
"""

import os
from dataclasses import dataclass
from enum import Enum

from govc.config.config import Config, bool_of
from govc.protocol.proc_receive import RefPattern, parse_pattern
from govc.service.context import RECEIVE_PACK, UPLOAD_ARCHIVE

_HTTP_SWITCHES = ("http.getanyfile", "http.uploadpack", "http.receivepack", "http.uploadarchive")
_RECEIVE_SWITCHES = ("receive.fsckobjects", "transfer.fsckobjects", "receive.autogc", "receive.updateserverinfo")
_RECEIVE_NUMBERS = ("receive.unpacklimit", "transfer.unpacklimit", "receive.maxinputsize")


def check_http_settings(config: Config) -> None:
    """Raise BadConfig when any of http-backend's own settings makes no sense: git reads them all before anything."""
    for key in _HTTP_SWITCHES:
        config.find_bool(key)
    config.get_unsigned("http.maxrequestbuffer", 0)


def check_receive_settings(config: Config) -> None:
    """Raise BadConfig when a setting of receive-pack makes no sense, though it matters later (CF-88)."""
    for key in _RECEIVE_SWITCHES:
        config.find_bool(key)
    for key in _RECEIVE_NUMBERS:
        config.get_int(key, 0)


def service_enabled(config: Config, service: str, remote_user: str | None) -> bool:
    """Say whether `http.uploadpack`, `http.receivepack` or `http.uploadarchive` lets this caller in.

    Unset, upload-pack is open, and the two others are open to whoever the front authenticated (HB-24, HB-25).
    """
    config.remembered(check_http_settings)
    if service == UPLOAD_ARCHIVE:
        return config.get_bool("http.uploadarchive", bool(remote_user))
    if service == RECEIVE_PACK:
        return config.get_bool("http.receivepack", bool(remote_user))
    return config.get_bool("http.uploadpack", True)


def getanyfile_enabled(config: Config) -> bool:
    """Say whether the dumb routes are open (`http.getanyfile`, default true)."""
    config.remembered(check_http_settings)
    return config.get_bool("http.getanyfile", True)


class DenyAction(Enum):
    """What `receive.denyCurrentBranch` and `receive.denyDeleteCurrent` can ask for."""

    IGNORE = "ignore"
    WARN = "warn"
    REFUSE = "refuse"
    UPDATE_INSTEAD = "updateinstead"


def _deny_action(config: Config, key: str, default: DenyAction) -> DenyAction:
    """Read a setting that is one of the words, or a boolean: true refuses, false ignores."""
    entry = config.find_entry(key)
    if entry is None:
        return default
    for action in DenyAction:
        if entry.value is not None and entry.value.lower() == action.value:
            return action
    return DenyAction.REFUSE if bool_of(entry) else DenyAction.IGNORE


def _unpack_limit(config: Config) -> int | None:
    """Return receive.unpackLimit, else transfer.unpackLimit; below zero counts as unset, as in git."""
    limits = [config.get_int(f"{section}.unpacklimit", -1, bits=32) for section in ("receive", "transfer")]
    return next((limit for limit in limits if limit >= 0), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivePolicy:
    """The `receive.*` settings that judge ref updates, read once per push.

    `unpack_limit`: packs of fewer objects become loose objects; None when nobody asked for that.
    """

    deny_deletes: bool
    deny_delete_current: DenyAction
    deny_current_branch: DenyAction
    deny_non_fast_forwards: bool
    shallow_update: bool
    pack_bytes_max: int
    unpack_limit: int | None
    keepalive_seconds: int
    advertise_atomic: bool
    advertise_push_options: bool
    proc_receive_refs: tuple[RefPattern, ...]

    @classmethod
    def from_config(cls, config: Config) -> "ReceivePolicy":
        """Read the settings; raises BadConfig on a value that git would die on, also where we have no use for it."""
        for key in ("receive.autogc", "receive.updateserverinfo", "receive.fsckobjects", "transfer.fsckobjects"):
            config.find_bool(key)
        config.get_unsigned("receive.certnonceslop", 0)
        return cls(
            deny_deletes=config.get_bool("receive.denydeletes", False),
            deny_delete_current=_deny_action(config, "receive.denydeletecurrent", DenyAction.REFUSE),
            deny_current_branch=_deny_action(config, "receive.denycurrentbranch", DenyAction.REFUSE),
            deny_non_fast_forwards=config.get_bool("receive.denynonfastforwards", False),
            shallow_update=config.get_bool("receive.shallowupdate", False),
            pack_bytes_max=config.get_int("receive.maxinputsize", 0),
            unpack_limit=_unpack_limit(config),
            keepalive_seconds=config.get_int("receive.keepalive", 5),
            advertise_atomic=config.get_bool("receive.advertiseatomic", True),
            advertise_push_options=config.get_bool("receive.advertisepushoptions", False),
            proc_receive_refs=tuple(
                parse_pattern(os.fsencode(value)) for value in config.get_all("receive.procreceiverefs")
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPolicy:
    """The `uploadpack.*` settings that a fetch depends on."""

    allow_tip: bool
    allow_reachable: bool
    allow_any: bool
    allow_filter: bool
    allow_ref_in_want: bool
    allow_sideband_all: bool
    advertise_session_id: bool
    advertise_object_info: bool
    unborn: str
    keepalive_seconds: int

    @classmethod
    def from_config(cls, config: Config) -> "UploadPolicy":
        """Read the settings; raises BadConfig on a value that git would die on."""
        allow_any = config.get_bool("uploadpack.allowanysha1inwant", False)
        return cls(
            allow_tip=config.get_bool("uploadpack.allowtipsha1inwant", False) or allow_any,
            allow_reachable=config.get_bool("uploadpack.allowreachablesha1inwant", False) or allow_any,
            allow_any=allow_any,
            allow_filter=config.get_bool("uploadpack.allowfilter", False),
            allow_ref_in_want=config.get_bool("uploadpack.allowrefinwant", False),
            allow_sideband_all=config.get_bool("uploadpack.allowsidebandall", False),
            advertise_session_id=config.get_bool("transfer.advertisesid", False),
            advertise_object_info=config.get_bool("transfer.advertiseobjectinfo", False),
            unborn=(config.get("lsrefs.unborn") or "advertise").lower(),
            keepalive_seconds=config.get_int("uploadpack.keepalive", 5),
        )

    def allows_filter_kind(self, config: Config, kind: str) -> bool:
        """Say whether `uploadpackfilter.<kind>.allow` (or `uploadpackfilter.allow`) permits a filter."""
        default = config.get_bool("uploadpackfilter.allow", True)
        return config.get_bool(f"uploadpackfilter.{kind}.allow", default)
