"""Which servers' certificates the `laurel` command trusts, and what it says of one that it does not."""

from __future__ import annotations

import ssl

from laurel_local.exits import Exit, Failure

_UNKNOWN_AUTHORITY = frozenset({18, 19, 20, 21})  # X509_V_ERR_*: self-signed, or by somebody who is not in the store


def authorities() -> ssl.SSLContext:
    """The system's, or those of SSL_CERT_FILE and SSL_CERT_DIR: as `laurel verify --local` and the services have it."""
    return ssl.create_default_context()


def distrust(url: str, error: BaseException) -> Failure | None:
    """What to say of a server that answers, but not with a certificate that is trusted. None: it was something else."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return None
    fix = "have the server's certificate mended, or use the name that it is made out for"
    if cause.verify_code in _UNKNOWN_AUTHORITY:
        fix = "set SSL_CERT_FILE to a PEM file with the certificate of the authority that signed it"
    said = f"{url} answers with a certificate that is not trusted: {cause.verify_message}"
    return Failure(said, fix=fix, code=Exit.UNREACHABLE)
