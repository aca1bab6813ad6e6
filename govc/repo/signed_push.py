"""A signed push: its certificate, what its nonce is worth, and what hooks are told of it.

    GIT_PUSH_CERT               the oid of the blob that the certificate is stored as
    GIT_PUSH_CERT_SIGNER, _KEY  who signed, by which key
    GIT_PUSH_CERT_STATUS        what gpg or ssh-keygen says: G, B, E, X, Y, R or N (see `signatures`)
    GIT_PUSH_CERT_NONCE, _NONCE_STATUS, _NONCE_SLOP     only where receive.certNonceSeed is set

Nothing is refused here: whether a push may be signed badly, or not at all, is for the hook to say.

Source: git-receive-pack "pre-receive hook"; rows RP-69..RP-74, CF-29, CF-30.
"""

import os
from dataclasses import dataclass

from govc.config.config import Config
from govc.protocol.push_certificate import Certificate, NonceCheck, NonceStatus, check_nonce
from govc.repo.layout import RepositoryLayout
from govc.repo.signatures import SignaturePolicy, SignatureVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPush:
    """A push certificate, what we think of its nonce, and how its signature is to be checked."""

    text: bytes
    certificate: Certificate
    nonce: NonceCheck
    signatures: SignaturePolicy

    @classmethod
    def judge(
        cls, text: bytes, certificate: Certificate, layout: RepositoryLayout, config: Config, now_seconds: int
    ) -> "SignedPush":
        """Judge the nonce of a certificate. Raises BadConfigValue."""
        nonce = check_nonce(
            certificate.nonce,
            seed=nonce_seed(config),
            algo=layout.algo,
            now_seconds=now_seconds,
            slop_seconds_max=config.get_unsigned("receive.certnonceslop", 0),
        )
        return cls(text=text, certificate=certificate, nonce=nonce, signatures=SignaturePolicy.from_config(config))


def nonce_seed(config: Config) -> bytes:
    """Return receive.certNonceSeed, b"" when signed pushes are off."""
    return os.fsencode(config.get("receive.certnonceseed") or "")


def encode_certificate_variables(oid: bytes, verdict: SignatureVerdict, nonce: NonceCheck) -> dict[str, str]:
    """Return GIT_PUSH_CERT and its companions."""
    variables = {
        "GIT_PUSH_CERT": oid.hex(),
        "GIT_PUSH_CERT_SIGNER": os.fsdecode(verdict.signer),
        "GIT_PUSH_CERT_KEY": os.fsdecode(verdict.key),
        "GIT_PUSH_CERT_STATUS": verdict.status,
    }
    if nonce.nonce:
        variables["GIT_PUSH_CERT_NONCE"] = os.fsdecode(nonce.nonce)
        variables["GIT_PUSH_CERT_NONCE_STATUS"] = nonce.status.value
        if nonce.status is NonceStatus.SLOP:
            variables["GIT_PUSH_CERT_NONCE_SLOP"] = str(nonce.slop_seconds)
    return variables
