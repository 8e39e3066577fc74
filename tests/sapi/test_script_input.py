"""What a script is told: superglobals and the body."""

from __future__ import annotations

import pytest
from fakes import Site, process_as_it_was

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def site(tmp_path):
    with process_as_it_was():
        yield Site(tmp_path)


def test_raw_bytes_in_a_query_are_the_text_they_mean_beside_server(site):
    """With _SERVER in the same script the query was decoded twice, and the worker failed."""
    answer = site.run(
        "echo(repr(_GET), _SERVER['QUERY_STRING'], repr(_COOKIE))", QUERY_STRING="q=€ü", HTTP_COOKIE="c=€"
    )
    assert answer.text == "{'q': '€ü'}q=€ü{'c': '€'}"


def test_bytes_that_are_no_text_come_back_as_they_were(site):
    answer = site.run("echo(_GET['a'], _SERVER['HTTP_X'])", QUERY_STRING="a=%ff%fe", HTTP_X="\udce9")
    assert answer.body == b"\xff\xfe\xe9"


def test_server_has_the_parameters_and_the_time(site):
    answer = site.run(
        "import time\n"
        "echo(_SERVER['PHP_SELF'], _SERVER['HTTP_HOST'], type(_SERVER['REQUEST_TIME']).__name__,"
        " abs(_SERVER['REQUEST_TIME_FLOAT'] - time.time()) < 60)",
        SCRIPT_NAME="/x.py", PATH_INFO="/more", HTTP_HOST="h",
    )  # fmt: skip
    assert answer.text == "/x.py/morehintTrue"


def test_http_proxy_is_absent(site):
    assert site.run("echo('HTTP_PROXY' in _SERVER)", HTTP_PROXY="http://evil").text == "False"


@pytest.mark.parametrize("content_type", [FORM, FORM + "; charset=UTF-8", FORM.upper()])
def test_a_form_is_in_post_and_over_get_in_request(site, content_type):
    answer = site.run(
        "echo(sorted(_POST.items()), sorted(_REQUEST.items()))", b"a=2&c=%C3%BC",
        QUERY_STRING="a=1&b=1", HTTP_COOKIE="d=1", CONTENT_TYPE=content_type, REQUEST_METHOD="POST",
    )  # fmt: skip
    assert answer.text == "[('a', '2'), ('c', 'ü')][('a', '2'), ('b', '1'), ('c', 'ü')]"


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data; boundary=x"])
def test_another_body_is_not_in_post(site, content_type):
    assert site.run("echo(_POST)", b"a=1", CONTENT_TYPE=content_type, REQUEST_METHOD="POST").text == "{}"


def test_the_raw_body_is_on_stdin_after_post_as_well(site):
    answer = site.run(
        "import sys\necho(_POST, sys.stdin.buffer.read())", b"a=\xff", CONTENT_TYPE=FORM, REQUEST_METHOD="POST"
    )
    assert answer.body == b"{'a': '\\udcff'}a=\xff"


def test_post_asked_for_by_a_module_is_whole_though_the_body_was_read(site):
    """It began where the script had stopped reading, and moved the script's place."""
    site.write("from pyfpm import _POST\ndef f(): return dict(_POST)\n", "reads_post.py")
    answer = site.run(
        "import sys, reads_post\nfirst = sys.stdin.buffer.read(2)\n"
        "echo(reads_post.f(), first, sys.stdin.buffer.read())",
        b"a=1&b=2", CONTENT_TYPE=FORM, REQUEST_METHOD="POST",
    )  # fmt: skip
    assert answer.text == "{'a': '1', 'b': '2'}a=1&b=2"


@pytest.mark.parametrize(
    "reader", ["sys.stdin.read()", "''.join(sys.stdin)", "''.join(sys.stdin.readlines())", "input()"]
)
def test_the_body_can_be_read_as_text(site, reader):
    source = f"import sys\necho(repr({reader}))"
    assert site.run(source, "zü\udcff".encode("utf-8", "surrogateescape")).text == "'zü\\udcff'"


def test_without_a_body_stdin_is_at_its_end(site):
    assert site.run("import sys\necho(repr(sys.stdin.read()), repr(sys.stdin.buffer.read()))").text == "''b''"


def test_every_superglobal_is_the_same_dict_each_time(site):
    answer = site.run(
        "for name in '_SERVER _GET _POST _COOKIE _REQUEST _ENV _FILES'.split():\n"
        "    assert type(globals()[name]) is dict, name\n"
        "import pyfpm, os\n"
        "_GET['added'] = 1\nassert pyfpm._GET is _GET\n"
        "assert GLOBALS is globals() and _ENV == dict(os.environ) and _FILES == {}\n"
        "echo('good')"
    )
    assert answer.text == "good", answer.log


def test_the_namespace_has_all_functions_and_is_main(site):
    answer = site.run(
        "import pyfpm, sys\n"
        "for name in 'echo exit flush header header_remove headers_list headers_sent http_response_code sapi_name"
        " setcookie'.split():\n"
        "    assert globals()[name] is getattr(pyfpm, name), name\n"
        "assert __name__ == '__main__' and sys.modules['__main__'].echo is echo\n"
        "assert sys.argv == [__file__] and sys.path[0] == __file__[:-5]\n"
        "echo(sapi_name())"
    )
    assert answer.text == "fpm-fcgi", answer.log


def test_a_module_follows_the_request_that_runs(site):
    site.write(
        "from pyfpm import _GET, echo\ndef show(): echo(_GET['a'], len(_GET), list(_GET), 'b' in _GET)\n", "follows.py"
    )
    source = "from pyfpm import _GET, echo\nimport follows\necho(_GET['a'])\nfollows.show()"
    assert site.run(source, QUERY_STRING="a=1").text == "11" + "1['a']False"
    assert site.run(source, QUERY_STRING="a=2").text == "22" + "1['a']False"


def test_outside_of_a_request_the_names_say_so():
    from pyfpm import _GET, echo

    with pytest.raises(RuntimeError, match="no request here"):
        echo("x")
    with pytest.raises(RuntimeError, match="no request here"):
        _GET["a"]


def test_apaches_form_of_the_file_name_is_not_shown_to_the_script(site):
    path = site.write("echo(_SERVER['SCRIPT_FILENAME'])", "ä x.py")
    assert site.ask(f"proxy:fcgi://127.0.0.1:9000{site.root}/%C3%A4%20x.py?a=1").text == str(path)


@pytest.mark.parametrize("source", ["globals()['echo']('hello')", "eval('echo')('hello')", "exec('echo(\"hello\")')"])
def test_a_function_that_is_named_as_text_is_there(site, source):
    """Only what a script names is put into its namespace."""
    assert site.run(source).text == "hello"


def test_a_function_that_only_an_inner_function_names_is_there(site):
    assert site.run("def outer():\n class A:\n  def f(self): echo('hello')\n A().f()\nouter()").text == "hello"
