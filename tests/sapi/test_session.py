"""Sessions as a script sees them: PHP's functions, the cookie, the headers, and what is kept."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import re
import time

import pytest
from fakes import FakeOutput, Site, process_as_it_was

from pyfpm.sapi.session import ids
from pyfpm.sapi.timeout import ExecutionTimeout

OLD = "Thu, 19 Nov 1981 08:52:00 GMT"


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "sessions"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def make_site(tmp_path, kept):
    with process_as_it_was():
        yield lambda **settings: Site(tmp_path, session_save_path=str(kept), **settings)


@pytest.fixture
def site(make_site):
    return make_site()


def cookies(answer) -> list[str]:
    return answer.all("Set-Cookie")


def id_of(answer) -> str:
    (cookie,) = cookies(answer)
    return re.match(r"PHPSESSID=([^;]*)", cookie)[1]


def with_cookie(session_id: str, **params: str) -> dict[str, str]:
    return {"HTTP_COOKIE": f"PHPSESSID={session_id}", **params}


def begun(site: Site, **data: object) -> str:
    """The id of a session with this data."""
    answer = site.run(f"session_start(); _SESSION.update({data!r})")
    assert answer.app_status == 0, answer.log
    return id_of(answer)


def data_of(site: Site, session_id: str) -> dict[str, object]:
    return json.loads(
        site.run("import json; session_start(); echo(json.dumps(_SESSION))", **with_cookie(session_id)).text
    )


# -- from one request to the next -------------------------------------------------------------------------------------


def test_what_a_script_puts_into_a_session_is_there_for_the_next(site):
    session_id = begun(site, name="Käthe", cart=[1, {"a": None}], raw="\udcff")
    answer = site.run("session_start(); echo(repr(_SESSION))", **with_cookie(session_id))
    assert answer.text == repr({"name": "Käthe", "cart": [1, {"a": None}], "raw": "\udcff"})


def test_a_script_without_a_session_has_neither_cookie_nor_file(site, kept):
    answer = site.run("echo(repr(_SESSION), session_status())\n_SESSION['x'] = 1")
    assert answer.text == "{}1" and not cookies(answer) and not list(kept.iterdir())


def test_session_may_be_another_dict(site):
    """``$_SESSION = []`` is how PHP's scripts empty it."""
    session_id = begun(site, a=1)
    site.run("session_start(); _SESSION = {'b': 2}", **with_cookie(session_id))
    assert data_of(site, session_id) == {"b": 2}
    site.run("session_start(); _SESSION = {'c': 3}; session_write_close()", **with_cookie(session_id))
    assert data_of(site, session_id) == {"c": 3}
    answer = site.run("_SESSION = {'mine': 1}; session_start(); echo(repr(_SESSION))", **with_cookie(session_id))
    assert answer.text == "{'c': 3}"


def test_a_module_has_the_session_of_the_request(site, tmp_path):
    (tmp_path / "session_counter.py").write_text(
        "from pyfpm import _SESSION, session_start\n"
        "def count():\n    session_start()\n    _SESSION['n'] = _SESSION.get('n', 0) + 1\n    return _SESSION['n']\n"
    )
    source = "import session_counter; echo(session_counter.count())"
    session_id = id_of(site.run(source))
    assert [site.run(source, **with_cookie(session_id)).text for _ in range(2)] == ["2", "3"]


@pytest.mark.parametrize(
    "end", ["", "exit()", "exit('bye')", "raise SystemExit(3)", "import sys; sys.exit()", "1 / 0", "flush(); 1 / 0"]
)
def test_a_session_is_kept_however_the_script_ends(site, end):
    """As in PHP, also when it failed."""
    session_id = begun(site)
    site.run(f"session_start(); _SESSION['a'] = 1\n{end}", **with_cookie(session_id))
    assert data_of(site, session_id) == {"a": 1}


def test_a_session_is_kept_when_the_visitor_leaves(site):
    session_id = begun(site)
    source = "session_start(); _SESSION['a'] = 1\nfor n in range(9): echo('x' * 9000)\n_SESSION['a'] = 2"
    site.run(source, output=FakeOutput(leaves_after=20_000), **with_cookie(session_id))
    assert data_of(site, session_id) == {"a": 1}


def test_destructors_have_the_session_still(site):
    source = "session_start()\nclass A:\n def __del__(self, s=_SESSION): s['a'] = 'bye'\nkeep = A()"
    assert data_of(site, id_of(site.run(source))) == {"a": "bye"}


# -- the cookie -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "params", "cookie"),
    [
        ({}, {}, "PHPSESSID=ID; path=/; HttpOnly; SameSite=Lax"),
        ({}, {"HTTPS": "on"}, "PHPSESSID=ID; path=/; secure; HttpOnly; SameSite=Lax"),
        ({}, {"HTTPS": "off"}, "PHPSESSID=ID; path=/; HttpOnly; SameSite=Lax"),
        ({}, {"REQUEST_SCHEME": "https"}, "PHPSESSID=ID; path=/; secure; HttpOnly; SameSite=Lax"),
        ({"session_cookie_secure": False}, {"HTTPS": "on"}, "PHPSESSID=ID; path=/; HttpOnly; SameSite=Lax"),
        ({"session_cookie_secure": True}, {}, "PHPSESSID=ID; path=/; secure; HttpOnly; SameSite=Lax"),
        (
            {"session_cookie_secure": True, "session_cookie_samesite": "none"},
            {},
            "PHPSESSID=ID; path=/; secure; HttpOnly; SameSite=None",
        ),
        (
            {"session_cookie_samesite": "off", "session_cookie_httponly": False, "session_name": "sid"},
            {},
            "sid=ID; path=/",
        ),
        (
            {"session_cookie_path": "/shop", "session_cookie_domain": "example.com"},
            {},
            "PHPSESSID=ID; path=/shop; domain=example.com; HttpOnly; SameSite=Lax",
        ),
    ],
)
def test_the_cookie_is_as_configured(make_site, settings, params, cookie):
    (sent,) = cookies(make_site(**settings).run("session_start()", **params))
    assert re.sub(r"=[0-9a-f]{32}", "=ID", sent) == cookie


def test_a_cookie_with_a_lifetime_says_when_it_ends(make_site):
    (cookie,) = cookies(make_site(session_cookie_lifetime_s=3600.0).run("session_start()"))
    assert re.search(r"; expires=\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT; Max-Age=3600;", cookie)


def test_a_visitor_who_has_the_cookie_is_sent_none(site):
    session_id = begun(site)
    assert cookies(site.run("session_start()", **with_cookie(session_id))) == []


@pytest.mark.parametrize(
    "source",
    [
        "session_start(); session_start()",
        "session_start(); session_regenerate_id(); session_regenerate_id(True)",
        "session_start(); session_write_close(); session_start()",
        "session_start(); session_destroy(); session_start()",
        "session_start(); session_abort(); session_id(session_create_id()); session_start()",
    ],
)
def test_no_more_than_one_cookie_is_sent(site, source):
    answer = site.run(source + "; echo(session_id())")
    assert id_of(answer) == answer.text


def test_other_cookies_stay(site):
    answer = site.run("setcookie('PHPSESSID2', 'x'); session_start(); session_regenerate_id(); setcookie('a', 'b')")
    assert [cookie.partition("=")[0] for cookie in cookies(answer)] == ["PHPSESSID2", "PHPSESSID", "a"]


def test_samesite_none_without_secure_is_refused(make_site, kept):
    """A browser drops such a cookie, and every request would begin a session of its own."""
    answer = make_site(session_cookie_samesite="none").run("session_start()")
    assert answer.status == 500 and "browsers refuse a cookie of SameSite=None without Secure" in answer.log
    assert not list(kept.iterdir())


def test_cookie_parameters_can_be_changed_for_a_request(site):
    (cookie,) = cookies(
        site.run(
            "session_set_cookie_params(60, '/a', 'example.com', True, False, 'Strict')\nsession_start()"
            "\necho(repr(session_get_cookie_params()))"
        )
    )
    assert re.search(r"Max-Age=60; path=/a; domain=example.com; secure; SameSite=Strict$", cookie)
    answer = site.run(
        "session_set_cookie_params({'SameSite': 'Lax', 'lifetime': 0}); echo(repr(session_get_cookie_params()))"
    )
    assert answer.text == repr(
        {"lifetime": 0, "path": "/", "domain": "", "secure": None, "httponly": True, "samesite": "Lax"}
    )


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("session_set_cookie_params({'colour': 1})", "a session has no option 'colour'; it has lifetime, path, domain"),
        ("session_set_cookie_params(path='/; x')", "path '/; x' cannot stand in a cookie"),
        ("session_set_cookie_params(samesite='maybe')", "must be one of strict, lax, none, off, not 'maybe'"),
        ("session_name('')", "cannot be a number or empty"),
        ("session_name('12')", "cannot be a number or empty"),
        ("session_name('a.b')", "has one of = , ; . [ or white space in it"),
        ("session_id('../../etc/passwd')", "is no session id"),
        ("session_id('x' * 129)", "is no session id"),
        ("session_create_id('a/')", "is no prefix for a session id"),
        ("session_start(colour=1)", "a session has no option 'colour'"),
        ("session_start({'cache_limiter': 'maybe'})", "cache_limiter must be one of nocache"),
        ("session_start(gc_divisor=0)", "gc_divisor cannot be 0"),
        ("session_start(cookie_lifetime='long')", "cookie_lifetime must be a number of seconds, not 'long'"),
        ("session_start(); session_id('abc')", "the session's id cannot be changed while a session is active"),
        ("session_start(); session_name('abc')", "the session's name cannot be changed while"),
        ("session_start(); session_set_cookie_params(1)", "the cookie's parameters cannot be changed while"),
        ("session_start(); session_cache_limiter('none')", "the cache limiter cannot be changed while"),
        ("session_regenerate_id()", "there is no session: session_start() comes first"),
        ("session_destroy()", "there is no session: session_start() comes first"),
        ("session_gc()", "there is no session: session_start() comes first"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(site, call, why):
    answer = site.run(call)
    assert answer.status == 500 and why in answer.log


def test_what_does_nothing_without_a_session_says_so(site):
    names = ("session_write_close", "session_commit", "session_abort", "session_reset", "session_unset")
    answer = site.run("echo(repr([" + ", ".join(f"{name}()" for name in names) + "]))")
    assert answer.text == "[False, False, False, False, False]"


# -- ids --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cookie",
    [
        "PHPSESSID=" + "a" * 32,
        "PHPSESSID=",
        "PHPSESSID",
        "PHPSESSID=..%2F..%2Fetc%2Fpasswd",
        "PHPSESSID=../x",
        "PHPSESSID=a%00b",
        "PHPSESSID=a/b",
        "PHPSESSID=%FF",
        "PHPSESSID=" + "a" * 5000,
        "PHPSESSID[]=x",
        "PHPSESSID=a\tb",
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_an_id_that_we_did_not_give_out_is_replaced(make_site, kept, cookie, strict):
    answer = make_site(session_use_strict_mode=strict).run("session_start(); echo(session_id())", HTTP_COOKIE=cookie)
    assert answer.app_status == 0, answer.log
    asked = cookie.partition("=")[2]
    if not strict and ids.is_valid(asked) and "[" not in cookie:
        assert answer.text == asked
    else:
        assert answer.text == id_of(answer) != asked
    assert [path.name for path in kept.iterdir()] == ["sess_" + answer.text]


def test_ids_cannot_be_guessed_and_do_not_come_twice():
    made = {ids.new_id() for _ in range(1000)}
    assert len(made) == 1000 and all(re.fullmatch("[0-9a-f]{32}", each) for each in made)


def test_a_script_may_choose_the_id_where_ids_are_not_strict(site):
    chosen = "user-7-" + "a" * 20
    assert site.run(f"session_id({chosen!r}); session_start(); echo(session_id())").text != chosen
    answer = site.run(f"session_id({chosen!r}); session_start(use_strict_mode=False); echo(session_id())")
    assert answer.text == chosen == id_of(answer)


def test_a_new_id_is_worth_the_login_and_the_old_one_is_not(site):
    """Session fixation: the attacker had the visitor begin with an id that he knows."""
    planted = begun(site, cart=1)
    answer = site.run("session_start(); _SESSION['user'] = 'me'; session_regenerate_id()", **with_cookie(planted))
    assert data_of(site, id_of(answer)) == {"cart": 1, "user": "me"}
    assert data_of(site, planted) == {"cart": 1}


def test_the_old_session_can_be_deleted_with_the_change_of_id(site, kept):
    old = begun(site, a=1)
    answer = site.run("session_start(); session_regenerate_id(True)", **with_cookie(old))
    assert data_of(site, id_of(answer)) == {"a": 1}
    assert [path.name for path in kept.iterdir()] == ["sess_" + id_of(answer)]


def test_a_destroyed_session_is_gone_and_its_id_with_it(site, kept):
    session_id = begun(site, a=1)
    answer = site.run(
        "session_start(); session_destroy(); echo(repr([_SESSION, session_id(), session_status()]))\n"
        "session_start(); echo(repr(_SESSION)); _SESSION['b'] = 2",
        **with_cookie(session_id),
    )
    assert answer.text == "[{'a': 1}, '', 1]{}"
    assert id_of(answer) != session_id and data_of(site, id_of(answer)) == {"b": 2}
    assert len(list(kept.iterdir())) == 1


def test_a_session_that_was_not_used_for_gc_maxlifetime_is_unknown(site, kept):
    session_id = begun(site, a=1)
    (file,) = kept.iterdir()
    os.utime(file, (time.time() - 1441,) * 2)
    assert data_of(site, session_id) == {}


# -- what is kept -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("{1: 2}", "_SESSION['v'] has the key 1 (int); the keys of a session are str"),
        (
            "[0, {'when': __import__('datetime').date(2026, 1, 2)}]",
            "_SESSION['v'][1]['when'] is a date; a session keeps",
        ),
        ("{1, 2}", "_SESSION['v'] is a set; a session keeps str, int, float, bool, None, and lists and dicts of these"),
        ("b'x'", "_SESSION['v'] is a bytes"),
        ("object()", "_SESSION['v'] is a object"),
        ("float('nan')", "_SESSION['v'] is nan, for which JSON has no number"),
        ("10 ** 5000", "_SESSION cannot be kept: Exceeds the limit"),
    ],
)
@pytest.mark.parametrize("end", ["", "; session_write_close()"])
def test_a_value_that_json_cannot_keep_is_named_and_the_data_before_stays(site, value, why, end):
    session_id = begun(site, v="before")
    answer = site.run(f"session_start(); _SESSION['v'] = {value}; echo('page'){end}", **with_cookie(session_id))
    assert answer.status == 500 and why in answer.log and "page" not in answer.text
    assert data_of(site, session_id) == {"v": "before"}


def test_a_session_that_contains_itself_is_an_error_and_no_hang(site):
    answer = site.run("session_start(); _SESSION['a'] = a = []; a.append(a)")
    assert answer.status == 500 and "is nested more than 100 deep, or contains itself" in answer.log


@pytest.mark.parametrize("content", [b'a|i:1;b|s:3:"abc";', b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b"1"])
def test_a_file_of_another_program_is_left_alone(site, kept, content):
    """PHP keeps its sessions under the same names."""
    session_id = "a" * 26
    (kept / f"sess_{session_id}").write_bytes(content)
    answer = site.run("session_start(); echo(repr(_SESSION)); _SESSION['a'] = 1", **with_cookie(session_id))
    assert answer.text == "{}" and id_of(answer) != session_id
    assert (kept / f"sess_{session_id}").read_bytes() == content
    assert "session aaaaaaaa... has not the form of ours, a new one begins" in answer.stderr


def test_without_a_change_only_the_time_is_written(site, kept):
    session_id = begun(site, a=1)
    (file,) = kept.iterdir()
    os.utime(file, (time.time() - 100,) * 2)
    before = file.stat()
    site.run("session_start(); _SESSION['a'] = 1", **with_cookie(session_id))
    after = file.stat()
    assert after.st_ino == before.st_ino and after.st_mtime > before.st_mtime
    site.run("session_start(lazy_write=False)", **with_cookie(session_id))
    assert file.stat().st_ino != before.st_ino


def test_read_and_close_holds_nobody_up(site, kept):
    session_id = begun(site, a=1)
    answer = site.run(
        "session_start({'read_and_close': True}); echo(_SESSION['a'], session_status()); _SESSION['a'] = 2",
        **with_cookie(session_id),
    )
    assert answer.text == "11" and data_of(site, session_id) == {"a": 1}


def test_abort_and_reset_forget_what_has_changed(site):
    session_id = begun(site, a=1)
    source = "session_start(); _SESSION['a'] = 2; session_reset(); echo(_SESSION['a'])"
    assert site.run(source, **with_cookie(session_id)).text == "1"
    source = "session_start(); _SESSION['a'] = 2; session_abort(); echo(_SESSION['a'], session_status())"
    assert site.run(source, **with_cookie(session_id)).text == "21"
    assert data_of(site, session_id) == {"a": 1}


def test_unset_empties_the_session(site):
    session_id = begun(site, a=1)
    site.run("session_start(); session_unset(); echo(repr(_SESSION))", **with_cookie(session_id))
    assert data_of(site, session_id) == {}


def test_a_session_may_be_begun_again_after_it_was_closed(site):
    session_id = begun(site, a=1)
    site.run(
        "session_start(); _SESSION['a'] = 2; session_write_close(); _SESSION['a'] = 3\n"
        "session_start(); _SESSION['b'] = _SESSION['a']",
        **with_cookie(session_id),
    )
    assert data_of(site, session_id) == {"a": 2, "b": 2}


def test_old_sessions_are_collected_by_chance_and_on_demand(make_site, kept):
    def old() -> None:
        (kept / "sess_old").write_bytes(b"{}")
        os.utime(kept / "sess_old", (1, 1))

    old()
    make_site(session_gc_probability=0).run("session_start()")
    assert (kept / "sess_old").exists()
    make_site(session_gc_probability=1, session_gc_divisor=1).run("session_start()")
    assert not (kept / "sess_old").exists()
    old()
    answer = make_site(session_gc_probability=0).run("session_start(); echo(session_gc())")
    assert answer.text == "1" and not (kept / "sess_old").exists()


# -- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limiter", "headers"),
    [
        ("nocache", {"Expires": OLD, "Cache-Control": "no-store, no-cache, must-revalidate", "Pragma": "no-cache"}),
        ("private", {"Expires": OLD, "Cache-Control": "private, max-age=10800", "Last-Modified": "CHANGED"}),
        ("private_no_expire", {"Cache-Control": "private, max-age=10800", "Last-Modified": "CHANGED"}),
        ("public", {"Expires": "LATER", "Cache-Control": "public, max-age=10800", "Last-Modified": "CHANGED"}),
        ("none", {}),
    ],
)
def test_the_cache_limiter_sends_what_php_sends(make_site, limiter, headers):
    answer = make_site(session_cache_limiter=limiter).run("session_start()")
    found = {}
    for name in ("Expires", "Cache-Control", "Pragma", "Last-Modified"):
        values = answer.all(name)
        assert len(values) == (name in headers)
        if values:
            found[name] = "LATER" if values != [OLD] and name == "Expires" else values[0]
            found[name] = "CHANGED" if name == "Last-Modified" else found[name]
    assert found == headers


def test_the_limiter_can_be_changed_and_takes_the_place_of_what_was_there(site):
    answer = site.run(
        "header('Cache-Control: mine'); echo(session_cache_limiter('private'), session_cache_expire(1))\n"
        "session_start()"
    )
    assert answer.text == "nocache180" and answer.all("Cache-Control") == ["private, max-age=60"]
    assert site.run("session_cache_limiter(''); session_start()").all("Cache-Control") == []


def test_a_session_begins_before_the_output(site, kept):
    answer = site.run("flush()\nsession_start()")
    assert "HeadersSentError" in answer.log and "x.py:1" in answer.log and not list(kept.iterdir())


def test_a_session_that_was_begun_may_go_on_behind_the_output(site):
    """A long answer gives its session free, and changes it later."""
    session_id = begun(site, a=1)
    answer = site.run(
        "session_start(); session_write_close(); flush(); session_start(); _SESSION['a'] = 2", **with_cookie(session_id)
    )
    assert answer.app_status == 0, answer.log
    assert data_of(site, session_id) == {"a": 2}


# -- options ----------------------------------------------------------------------------------------------------------


def test_options_count_for_one_request(site):
    answer = site.run("session_start(name='other', cookie_samesite='Strict', cache_limiter='')")
    (cookie,) = cookies(answer)
    assert cookie.startswith("other=") and "SameSite=Strict" in cookie and not answer.all("Cache-Control")
    assert cookies(site.run("session_start()"))[0].startswith("PHPSESSID=")


def test_auto_start_begins_one_for_each_script(make_site):
    site = make_site(session_auto_start=True)
    answer = site.run("echo(session_status()); _SESSION['a'] = 1")
    assert answer.text == "2"
    assert site.run("echo(_SESSION['a'])", **with_cookie(id_of(answer))).text == "1"


def test_a_store_that_fails_at_the_end_is_a_500(site, kept):
    answer = site.run(
        f"session_start(); _SESSION['a'] = 1; echo('page'); import os; os.rename({str(kept)!r}, {str(kept)!r} + '2')"
    )
    assert answer.status == 500 and "page" not in answer.text and "SessionError: cannot save a session in" in answer.log


# -- behind the answer ------------------------------------------------------------------------------------------------


def test_a_session_goes_on_behind_fastcgi_finish_request(site):
    session_id = begun(site)
    answer = site.run(
        "session_start(); echo('page'); fastcgi_finish_request(); _SESSION['a'] = 1", **with_cookie(session_id)
    )
    assert answer.text == "page" and data_of(site, session_id) == {"a": 1}


def test_behind_fastcgi_finish_request_a_value_that_cannot_be_kept_is_in_the_log(site):
    session_id = begun(site, a=1)
    answer = site.run(
        "session_start(); echo('page'); fastcgi_finish_request(); _SESSION['a'] = {1}", **with_cookie(session_id)
    )
    assert answer.text == "page" and "_SESSION['a'] is a set" in answer.log
    assert data_of(site, session_id) == {"a": 1}


def test_a_known_session_may_begin_behind_the_answer_and_a_new_one_may_not(site, kept):
    session_id = begun(site)
    source = "fastcgi_finish_request(); session_start(cache_limiter='none'); _SESSION['a'] = 1"
    assert site.run(source, **with_cookie(session_id)).app_status == 0
    assert data_of(site, session_id) == {"a": 1}
    assert "HeadersSentError" in site.run(source).log and len(list(kept.iterdir())) == 1


def test_shutdown_functions_have_the_session(site):
    source = "def last(): _SESSION['a'] = session_status()\nsession_start(); register_shutdown_function(last)"
    assert data_of(site, id_of(site.run(source))) == {"a": 2}
    source = "def last():\n session_start(); _SESSION['a'] = 1\nregister_shutdown_function(last)"
    assert data_of(site, id_of(site.run(source))) == {"a": 1}


def test_a_dict_of_the_scripts_own_kind_fails_in_its_request(site):
    """What it raised when it was read ended the worker."""
    answer = site.run(
        "class Odd(dict):\n"
        "    def __iter__(self):\n        raise LookupError('odd')\n"
        "    keys = __iter__\n"
        "session_start()\n_SESSION = Odd()\n"
    )
    assert answer.status == 500
    assert "LookupError: odd" in answer.log


def test_a_session_is_let_go_where_the_time_is_up_between_script_and_end(site, kept, monkeypatch):
    """Its lock was held until the collector came by, and the session's next request waited for its own worker."""
    session_id = begun(site, a=1)

    def up(namespace: object) -> None:
        raise ExecutionTimeout("now")

    monkeypatch.setattr("pyfpm.sapi.script._let_go", up)
    gc.disable()
    try:
        with pytest.raises(ExecutionTimeout):
            site.run("session_start()", **with_cookie(session_id))
        with open(kept / f"sess_{session_id}") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        gc.enable()
