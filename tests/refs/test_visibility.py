import pytest

from govc.refs.namespace import BadNamespace, expand_namespace, strip_namespace
from govc.refs.visibility import HiddenRefs

NS = b"refs/namespaces/a/"


@pytest.mark.parametrize(
    ("patterns", "name", "full_name", "hidden"),
    [
        ([], b"refs/heads/a", b"refs/heads/a", False),
        ([b"refs/heads"], b"refs/heads/a", b"refs/heads/a", True),
        ([b"refs/heads/"], b"refs/heads/a", b"refs/heads/a", True),
        ([b"refs/head"], b"refs/heads/a", b"refs/heads/a", False),
        ([b"refs/heads/a"], b"refs/heads/a", b"refs/heads/a", True),
        ([b"refs", b"!refs/heads"], b"refs/heads/a", b"refs/heads/a", False),
        ([b"!refs/heads", b"refs"], b"refs/heads/a", b"refs/heads/a", True),
        ([b"refs/heads"], b"refs/heads/a", NS + b"refs/heads/a", True),
        ([b"^refs/heads"], b"refs/heads/a", NS + b"refs/heads/a", False),
        ([b"^refs/namespaces/a"], b"refs/heads/a", NS + b"refs/heads/a", True),
        ([b"refs", b"!^refs/namespaces/a"], b"refs/heads/a", NS + b"refs/heads/a", False),
        ([b"refs"], None, b"refs/heads/a", False),
    ],
)
def test_the_last_matching_pattern_decides(patterns, name, full_name, hidden):
    assert hidden == HiddenRefs(patterns).is_hidden(name, full_name)


def test_namespaces_nest():
    prefix = expand_namespace(b"a/b")
    assert prefix == b"refs/namespaces/a/refs/namespaces/b/"
    assert strip_namespace(prefix + b"refs/heads/x", prefix) == b"refs/heads/x"
    assert strip_namespace(b"refs/heads/x", prefix) is None
    assert expand_namespace(b"") == b""
    with pytest.raises(BadNamespace):
        expand_namespace(b"a/../b")
