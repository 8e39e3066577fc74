"""What nginx would send, from its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfpm.ctl import nginx

SITE = r"""
user www-data;
events { }
http {
    upstream fpm { server unix:/run/pyfpm.sock; server unix:/run/other.sock; }
    server {
        listen 80;   # a comment with { braces; and }
        root "/srv/www";
        location / { try_files $uri =404; }
        location = /exact.py { fastcgi_pass 127.0.0.1:9001; fastcgi_param SCRIPT_FILENAME /srv/exact.py; }
        location ^~ /static/ { }
        location /api { root /srv/api; fastcgi_pass fpm; fastcgi_param SCRIPT_FILENAME $document_root/index.py; }
        location ~ ^(?<app>/.+)\.py(/|$) {
            fastcgi_split_path_info ^(.+\.py)(/.*)$;
            fastcgi_pass unix:/run/pyfpm.sock;
            set $base "/base$app";
            include params;
            fastcgi_param SCRIPT_FILENAME ${document_root}$fastcgi_script_name;
            fastcgi_param PATH_INFO $fastcgi_path_info;
            fastcgi_param BASE $base;
            fastcgi_param HTTPS $https if_not_empty;
            fastcgi_param EMPTY $http_x_not_sent;
            fastcgi_param ODD "a $strange;b";
        }
    }
}
"""


@pytest.fixture
def site(place: Path) -> Path:
    (place / "site").write_text(SITE)
    (place / "params").write_text("fastcgi_param QUERY_STRING $args;\nfastcgi_param REQUEST_URI $request_uri;\n")
    return place / "site"


def test_variables_are_expanded_and_included_files_read(site: Path) -> None:
    sent = nginx.sent(nginx.read(str(site)), "/a%20b.py/more/info?x=1")
    assert sent
    assert sent.address == "unix:/run/pyfpm.sock"
    assert sent.params == {
        "SCRIPT_FILENAME": "/srv/www/a b.py",
        "PATH_INFO": "/more/info",
        "QUERY_STRING": "x=1",
        "REQUEST_URI": "/a%20b.py/more/info?x=1",
        "BASE": "/base/a b",
        "EMPTY": "",
        "ODD": "a ;b",
    }
    assert sent.notes == ("nothing is known here about $strange",)
    assert sent.problems == ()
    assert sent.user == "www-data"
    assert sent.is_whole


@pytest.mark.parametrize(
    ("uri", "address", "filename"),
    [
        ("/exact.py", "127.0.0.1:9001", "/srv/exact.py"),
        ("/api", "unix:/run/pyfpm.sock", "/srv/api/index.py"),
        # A regular expression goes before the prefix.
        ("/api/x.py", "unix:/run/pyfpm.sock", "/srv/www/api/x.py"),
    ],
)
def test_location_is_chosen_as_nginx_does(site: Path, uri: str, address: str, filename: str) -> None:
    sent = nginx.sent(nginx.read(str(site)), uri)
    assert sent and not sent.problems
    assert (sent.address, sent.params["SCRIPT_FILENAME"]) == (address, filename)


@pytest.mark.parametrize(
    ("uri", "word"),
    [("/page", "no location with a fastcgi_pass is for /page"), ("/static/x.py", "nginx chooses location ^~ /static/")],
)
def test_uri_that_nginx_would_not_pass_on(site: Path, uri: str, word: str) -> None:
    sent = nginx.sent(nginx.read(str(site)), uri)
    assert sent
    assert word in sent.problems[0]


def test_location_with_params_of_its_own_inherits_none(place: Path) -> None:
    (place / "site").write_text(
        "server { root /srv; fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;"
        " location / { fastcgi_pass 9000; fastcgi_param A b; } location /all { fastcgi_pass 9000; } }"
    )
    root = nginx.read(str(place / "site"))
    sent = nginx.sent(root, "/x.py")
    assert sent and sent.params == {"A": "b"}
    assert "inherits none" in sent.problems[0]
    sent = nginx.sent(root, "/all.py")
    assert sent and sent.params == {"SCRIPT_FILENAME": "/srv/all.py"}


def test_inside_of_a_location_alone_will_do_and_a_missing_include_is_told(place: Path) -> None:
    (place / "part").write_text(
        "root /srv;\ninclude no_such_params;\nfastcgi_index index.py;\nfastcgi_pass unix:/s;\n"
        "fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n"
    )
    sent = nginx.sent(nginx.read(str(place / "part")), "/dir/")
    assert sent and sent.params["SCRIPT_FILENAME"] == "/srv/dir/index.py"
    assert sent.notes == ("include no_such_params was not found from here",)
    assert not sent.is_whole


def test_alias(place: Path) -> None:
    (place / "part").write_text(
        "location /app/ { alias /opt/app/; fastcgi_pass unix:/s; fastcgi_param SCRIPT_FILENAME $request_filename; }"
    )
    sent = nginx.sent(nginx.read(str(place / "part")), "/app/x.py")
    assert sent and sent.params["SCRIPT_FILENAME"] == "/opt/app/x.py"


@pytest.mark.parametrize(("text", "word"), [("a { b;", "is not closed: a"), ("a; }", "too many")])
def test_braces_that_do_not_fit(place: Path, text: str, word: str) -> None:
    (place / "part").write_text(text)
    with pytest.raises(ValueError, match=word):
        nginx.read(str(place / "part"))


def test_file_without_fastcgi_has_nothing(place: Path) -> None:
    (place / "part").write_text("location / { proxy_pass http://x; }")
    assert nginx.sent(nginx.read(str(place / "part")), "/") is None


def test_files_that_include_each_other_end(place: Path) -> None:
    (place / "a").write_text("include b;")
    (place / "b").write_text("include a; x y;")
    nginx.read(str(place / "a"))
