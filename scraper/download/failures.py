"""What went wrong, in our words: aiohttp's errors become `FetchError` here and nowhere else.

Details are built from error numbers and fixed phrases, never from the text of aiohttp's errors:
that text shows URLs with their tokens, proxies with their passwords, and the server's own bytes.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

import aiohttp
from aiohttp import http_exceptions

from scraper.download.wire import PRIVATE, Dropped
from scraper.errors import FetchError

__all__ = ["out_of_descriptors", "translate"]

_TEMPORARY_DNS = frozenset({socket.EAI_AGAIN, socket.EAI_SYSTEM, socket.EAI_MEMORY})
_RESET = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ESHUTDOWN})
_REFUSED = frozenset({
    errno.ECONNREFUSED,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
    errno.EADDRNOTAVAIL,
    errno.EINVAL,  # port 0
    errno.EACCES,
})
_EXPIRED = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, …_HAS_EXPIRED
_MISMATCH = frozenset({62, 63, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, …_EMAIL_…, …_IP_ADDRESS_…
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH")


def translate(error: Exception, url: str, *, proxied: bool) -> FetchError:
    """The `FetchError` that *error* amounts to. *proxied*: the exchange went through a proxy."""
    found = _translate(error, url)
    if proxied and found.reason in ("connect_refused", "conn_reset", "dns"):
        # Through a proxy nobody can tell whose fault that was, and the proxy is what we talk to.
        return FetchError("proxy_connect", url, f"by proxy: {found.detail}", sent=found.sent)
    return found


def out_of_descriptors(error: Exception) -> bool:
    """Whether this process (or the machine) has no file descriptor left for a connection."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def _translate(error: Exception, url: str) -> FetchError:
    match error:
        case FetchError():
            return FetchError(
                error.reason,
                url,
                error.detail,
                sent=error.sent,
                temporary=error.temporary,
                sends=error.sends,
            )
        case Dropped(partial=True):
            return FetchError("incomplete", url, "the connection ended within the header")
        case Dropped():
            return FetchError("conn_reset", url, "the connection ended before the answer")
        case aiohttp.ConnectionTimeoutError():
            return FetchError("timeout", url, "no connection in time", sent=False)
        case TimeoutError():
            return FetchError("timeout", url, "no complete answer in time")
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError():
            return _connection(error, url)
        case aiohttp.ClientPayloadError() | aiohttp.ClientResponseError():
            return _answer(error, url)
        case aiohttp.InvalidURL():
            return FetchError("url_invalid", url, "not a URL that can be fetched")
        case ValueError():
            return FetchError("protocol", url, "a header holds what HTTP cannot carry", sent=False)
    return FetchError("conn_reset", url, _number(error) or "the exchange broke off")


def _connection(error: aiohttp.ClientConnectorError, url: str) -> FetchError:
    """There is no connection."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _dns(error.os_error, url)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate(error.certificate_error, url)
    reason = error.os_error
    if isinstance(reason, ssl.SSLError):
        return _tls(reason, url)
    if PRIVATE in str(reason):
        return FetchError("private_address", url, f"it leads to a {PRIVATE}")
    if reason.errno in _REFUSED:
        return FetchError("connect_refused", url, _number(reason))
    if reason.errno == errno.ETIMEDOUT:
        return FetchError("timeout", url, "no connection in time", sent=False)
    if out_of_descriptors(reason):
        return FetchError("timeout", url, "no file descriptor was free in time", sent=False)
    return FetchError("conn_reset", url, _number(reason) or "dropped while connecting", sent=False)


def _dns(error: OSError, url: str) -> FetchError:
    temporary = error.errno in _TEMPORARY_DNS
    detail = "the name server does not answer" if temporary else "no such host"
    return FetchError("dns", url, detail, temporary=temporary)


def _certificate(error: Exception, url: str) -> FetchError:
    code = getattr(error, "verify_code", 0)
    message = getattr(error, "verify_message", "") or "the certificate was refused"
    if code in _EXPIRED:
        return FetchError("tls_expired", url, message)
    if code in _MISMATCH:
        return FetchError("tls_hostname", url, "the certificate names another host")
    return FetchError("tls_untrusted", url, message)


def _tls(error: ssl.SSLError, url: str) -> FetchError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error, url)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return FetchError("conn_reset", url, "dropped during the TLS handshake", sent=False)
    why = error.reason or "handshake failed"
    if any(mark in why for mark in _NOT_TLS):
        return FetchError("protocol", url, "that port does not speak TLS", sent=False)
    return FetchError("tls_protocol", url, why.replace("_", " ").lower())


def _answer(error: Exception, url: str) -> FetchError:
    """The answer is not HTTP, or not all of it came, or it is a proxy's refusal to CONNECT."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        reason = "proxy_auth" if error.status == 407 else "proxy_connect"
        return FetchError(reason, url, f"the proxy answered {error.status}")
    for cause in _causes(error):
        if (found := _parser_error(cause)) is not None:
            return FetchError(found[0], url, found[1])
    if isinstance(error, aiohttp.ClientPayloadError):
        return FetchError("incomplete", url, "the connection ended within the body")
    return FetchError("protocol", url, "the answer is not HTTP")


def _parser_error(cause: BaseException) -> tuple[str, str] | None:
    """Reason and detail of one error of a chain; None when it says too little."""
    match cause:
        case http_exceptions.LineTooLong():
            return "headers_too_large", "a line beyond http.max_header_line"
        case http_exceptions.ContentLengthError():
            return "incomplete", "fewer bytes than Content-Length says"
        case http_exceptions.TransferEncodingError() if "Not enough data" in cause.message:
            return "incomplete", "the last chunk never came"
        case http_exceptions.BadStatusLine():
            return "protocol", "the answer does not start like HTTP"
        case http_exceptions.InvalidHeader():
            return "protocol", "an invalid header field"
        case http_exceptions.BadHttpMessage() if "Too many headers" in cause.message:
            return "headers_too_large", "more than http.max_header_fields"
        case http_exceptions.BadHttpMessage():
            # The parser's reason is its first line; the server's own bytes follow it.
            return "protocol", cause.message.partition("\n")[0].rstrip(":")[:100]
        case OSError():
            return "incomplete", f"dropped within the body ({_number(cause)})"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 8:
        yield error
        error = error.__cause__ or error.__context__
        seen += 1


def _number(error: BaseException) -> str:
    """The name of *error*'s number, such as ECONNRESET; "" when it has none."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number in errno.errorcode:
        return errno.errorcode[number]
    return ""
