import html
import json
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bringup.placement.error_body import SEARCHED, WORDS_LIMIT, ErrorText, parse_error_body, plain

BODIES = {
    "placement": (
        {"errors": [{"status": 409, "title": "Conflict", "detail": "In use.\n\n  ", "code": "placement.inuse"}]},
        ErrorText("In use.", "placement.inuse"),
    ),
    "placement, request id in the body": (
        {"errors": [{"title": "Conflict", "request_id": "req-1"}]},
        ErrorText("Conflict", None, "req-1"),
    ),
    "microversion": (
        {"errors": [{"detail": "Unacceptable: 1.99", "max_version": "1.39", "min_version": "1.0"}]},
        ErrorText("Unacceptable: 1.99 (it has 1.0 to 1.39)"),
    ),
    "keystonemiddleware": (
        {"error": {"code": 401, "title": "Unauthorized", "message": "The request you have made ..."}},
        ErrorText("The request you have made ..."),
    ),
    "webob": (
        {"message": "Not verified.<br /><br />\n\n", "code": "401 Unauthorized", "title": "Unauthorized"},
        ErrorText("Not verified."),
    ),
    "page with a title": (
        b"<html><head><title>502 Bad Gateway</title></head><body>...</body></html>",
        ErrorText('a page "502 Bad Gateway"'),
    ),
    "page without one": (b"<html><body><h1>Bad</h1> luck</body></html>", ErrorText("Bad luck")),
    "text": (b"upstream\r\nfailed\x00\x1b[31m", ErrorText("upstream failed [31m")),
    "empty": (b"", ErrorText()),
    "truncated": (b'{"errors": [{"detail": "In u', ErrorText('{"errors": [{"detail": "In u')),
    "no list": ({"errors": "many"}, ErrorText('{"errors": "many"}')),
    "empty list": ({"errors": []}, ErrorText('{"errors": []}')),
    "numbers where text should be": ({"errors": [{"detail": 1, "code": 2, "request_id": 3}]}, ErrorText()),
    "not UTF-8": (b"\xff\xfe", ErrorText("\ufffd\ufffd")),
    "nested too deep": (b"[" * 100_000, ErrorText("[" * WORDS_LIMIT + "...")),
}


@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES.keys())
def test_every_shape_of_body_is_read(body: object, expected: ErrorText) -> None:
    assert parse_error_body(body if isinstance(body, bytes) else json.dumps(body).encode()) == expected


@given(
    st.binary() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_no_body_is_an_error_to_read(body: bytes) -> None:
    words = parse_error_body(body).words
    assert words == " ".join(words.split())
    assert len(words) <= WORDS_LIMIT + len("...")


@given(
    st.dictionaries(
        st.sampled_from(["errors", "error", "message", "code"]),
        st.recursive(
            st.none() | st.text() | st.integers(),
            lambda inner: (
                st.lists(inner) | st.dictionaries(st.sampled_from(["detail", "code", "title", "message"]), inner)
            ),
        ),
    )
)
def test_no_document_is_an_error_to_read(document: object) -> None:
    assert isinstance(parse_error_body(json.dumps(document).encode()), ErrorText)


@pytest.mark.parametrize("shape", ['{"errors": [{"detail": "no s3cr3t here"}]}', "<p>no s3cr3t here", "no s3cr3t here"])
def test_a_secret_that_the_answer_echoes_is_not_repeated(shape: str) -> None:
    assert parse_error_body(shape.encode(), secrets=("s3cr3t",)).words == "no *** here"


@pytest.mark.parametrize("secret", ['s3/c"r<e&t \u00e4', "s3c'ret\\+%"])
def test_a_secret_is_not_repeated_in_another_form_either(secret: str) -> None:
    octets = secret.encode()
    forms = [
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        quote(secret, safe="").lower(),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        html.escape(secret),
        b64encode(octets).decode(),
        urlsafe_b64encode(octets).decode(),
    ]
    for form in forms:
        assert plain(f"no {form} here", secrets=[secret]) == "no *** here"
        assert (
            parse_error_body(json.dumps({"message": f"no {form} here"}).encode(), secrets=[secret]).words
            == "no *** here"
        )


def test_a_secret_at_the_end_of_the_line_is_not_cut_open() -> None:
    words = parse_error_body(b"x" * (WORDS_LIMIT - 3) + b"s3cr3t", secrets=("s3cr3t",)).words
    assert "s3" not in words


@pytest.mark.parametrize("padding", [" ", "<b>", "x"])
@pytest.mark.parametrize("limit", [SEARCHED, WORDS_LIMIT])
def test_where_an_answer_is_cut_off_no_half_of_a_secret_is_left(limit: int, padding: str) -> None:
    secret = "ABCDEFGHIJ"
    for before in range(limit - 2 * len(secret), limit + 1):
        filler = (padding * before)[:before]
        assert "ABC" not in plain(filler + secret, secrets=[secret])
        assert "ABC" not in parse_error_body((filler + secret).encode(), secrets=[secret]).words
