import pytest

from govc.web.routes import RouteKind, find_route

H40, H64 = b"0123456789abcdef" * 2 + b"01234567", b"0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("tail", "kind", "method"),
    [
        (b"info/refs", RouteKind.INFO_REFS, "GET"),
        (b"HEAD", RouteKind.HEAD, "GET"),
        (b"objects/info/packs", RouteKind.INFO_PACKS, "GET"),
        (b"objects/info/alternates", RouteKind.ALTERNATES, "GET"),
        (b"objects/info/http-alternates", RouteKind.HTTP_ALTERNATES, "GET"),
        (b"objects/ab/" + H40[2:], RouteKind.LOOSE, "GET"),
        (b"objects/ab/" + H64[2:], RouteKind.LOOSE, "GET"),
        (b"objects/pack/pack-" + H40 + b".pack", RouteKind.PACK, "GET"),
        (b"objects/pack/pack-" + H64 + b".pack", RouteKind.PACK, "GET"),
        (b"objects/pack/pack-" + H40 + b".idx", RouteKind.IDX, "GET"),
        (b"objects/pack/pack-" + H64 + b".idx", RouteKind.IDX, "GET"),
        (b"git-upload-pack", RouteKind.RPC, "POST"),
        (b"git-receive-pack", RouteKind.RPC, "POST"),
        (b"git-upload-archive", RouteKind.RPC, "POST"),
    ],
)
@pytest.mark.parametrize("repository", [b"/a.git", b"/a/b/c.git", b"/a.git/info/refs", b"", b"/" + b"x" * 5000])
def test_each_tail_is_its_route_whatever_stands_before(repository, tail, kind, method):
    assert (kind, repository, tail, method) == find_route(repository + b"/" + tail)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"/a.git",
        b"/a.git/",
        b"/a.git/config",
        b"/a.git/packed-refs",
        b"/a.git/refs/heads/main",
        b"/a.git/HEAD/",
        b"/a.git/HEAD\n",
        b"/a.git/xHEAD",
        b"/a.git/git-upload-packs",
        b"/a.git/objects/AB/" + H40[2:],
        b"/a.git/objects/ab/" + H40[3:],
        b"/a.git/objects/ab/" + H40[2:] + b"\n",
        b"/a.git/objects/pack/pack-" + H40 + b".rev",
        b"/a.git/objects/pack/pack-" + H40 + b".bitmap",
        b"/a.git/objects/pack/pack-" + H40 + b".keep",
        b"/a.git/objects/pack/pack-" + H40.upper() + b".pack",
        b"/a.git/objects/pack/multi-pack-index",
    ],
)
def test_anything_else_is_no_route(path):
    assert find_route(path) is None
