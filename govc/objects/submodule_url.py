"""May a submodule have this URL? What a client would do with it decides.

    -x                       no: an option of the program it is handed to
    ./ ../ git://            no line feed after decoding; no way up out of the repository's own URL into its host
    http(s):// ftp(s)://     must be a URL, and no line feed in it after decoding (also as http::<url>)
    anything else            yes

Source: git's submodule-config.c check_submodule_url, urlmatch.c url_normalize; CVE-2018-17456, CVE-2020-5260,
CVE-2020-11008.
"""

import re

_RELATIVE = re.compile(rb"\.\.?/")
_CLIMB = re.compile(rb"(?:\.\.?/)*")
_ENCODED_NEWLINE = re.compile(rb"%0[aA]")
_CURL = re.compile(rb"(?:https?|ftps?)(?:::|(?=://))")
_SCHEME = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*+)://")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_HOST_END = re.compile(rb"[/?#]|\Z")
_HOST = re.compile(rb"[A-Za-z0-9.\-_\[:\]]*+")
_PORT_MAX = 65535
_PORT_DIGITS_MAX = 5


def is_command_line_option(text: bytes) -> bool:
    """Tell whether a program would take the text for an option."""
    return text.startswith(b"-")


def is_safe_submodule_url(url: bytes) -> bool:
    """Tell whether git would let that URL (without NUL) through."""
    if is_command_line_option(url):
        return False
    if _RELATIVE.match(url) or url.startswith(b"git://"):
        return not _has_newline(url) and not _escapes_into_host(url)
    curl = _CURL.match(url)
    return curl is None or _is_safe_curl_url(url[curl.end() :] if curl[0].endswith(b"::") else url)


def _has_newline(url: bytes) -> bool:
    """Tell whether a line feed comes out of decoding; what precedes the first colon is not decoded."""
    return b"\n" in url or _ENCODED_NEWLINE.search(url, max(url.find(b":"), 0)) is not None


def _escapes_into_host(url: bytes) -> bool:
    climb = _CLIMB.match(url)
    return climb is not None and b"../" in climb[0] and url.startswith((b":", b"/"), climb.end())


def _is_safe_curl_url(url: bytes) -> bool:
    """Tell whether a whole URL is one, and has no line feed in a part that normalizing keeps."""
    scheme = _SCHEME.match(url)
    if scheme is None:
        return False
    rest = url[scheme.end() :]
    host_end = _find_host_end(rest)
    at = rest.find(b"@", 0, host_end)
    if at >= 0:
        if not _is_safe_part(rest[:at]):
            return False
        rest = rest[at + 1 :]
        host_end = _find_host_end(rest)
    return _is_safe_host(rest[:host_end], is_file=scheme[1].lower() == b"file") and _is_safe_path(rest[host_end:])


def _find_host_end(rest: bytes) -> int:
    found = _HOST_END.search(rest)
    return len(rest) if found is None else found.start()


def _is_safe_part(part: bytes) -> bool:
    return b"\n" not in part and not _BAD_ESCAPE.search(part) and not _ENCODED_NEWLINE.search(part)


def _is_safe_host(host_and_port: bytes, *, is_file: bool) -> bool:
    """Tell whether host and port are well formed; only a file URL has none."""
    is_missing = not host_and_port or host_and_port.startswith(b":")
    if is_missing and not is_file:
        return False
    colon = host_and_port.rfind(b":")
    if colon <= host_and_port.rfind(b"]"):
        colon = len(host_and_port)
    host, port = host_and_port[:colon], host_and_port[colon + 1 :]
    if is_missing and port:
        return False
    return _HOST.fullmatch(host) is not None and _is_port(port)


def _is_port(port: bytes) -> bool:
    """Tell whether the text is a port, or nothing."""
    if not port:
        return True
    digits = port.lstrip(b"0")
    return digits.isdigit() and len(digits) <= _PORT_DIGITS_MAX and int(digits) <= _PORT_MAX


def _is_safe_path(rest: bytes) -> bool:
    """Tell whether path, query and fragment are well formed, with no line feed and no way above the root."""
    if _BAD_ESCAPE.search(rest):
        return False
    size = re.search(rb"[?#]|\Z", rest)
    path = rest if size is None else rest[: size.start()]
    if not _is_safe_part(rest[len(path) :]):
        return False
    kept: list[bytes] = []
    for segment in path.removeprefix(b"/").split(b"/"):
        plain = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), segment) if b"%" in segment else segment
        if plain == b"..":
            if not kept:
                return False
            kept.pop()
        elif plain != b".":
            kept.append(plain)
    return not any(b"\n" in segment for segment in kept)
