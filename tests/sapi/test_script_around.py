"""auto_prepend_file and auto_append_file."""

from __future__ import annotations

import pytest
from fakes import Site, process_as_it_was

BEFORE = "import os\necho('B', os.path.basename(__file__), _SERVER['REQUEST_METHOD'], ' ')\nshared = 1\n"
BEHIND = "echo(' A', os.path.basename(__file__), shared, globals().get('own'))"


@pytest.fixture
def site(tmp_path):
    # Not where scripts are, and not named like one.
    around = tmp_path / "around"
    root = tmp_path / "root"
    around.mkdir()
    root.mkdir()
    (around / "before.inc").write_text(BEFORE)
    (around / "behind.inc").write_text(BEHIND)
    with process_as_it_was():
        site = Site(root, auto_prepend_file=str(around / "before.inc"), auto_append_file=str(around / "behind.inc"))
        site.around = around
        yield site


def test_they_run_around_the_script_in_its_namespace(site):
    answer = site.run("own = 2\necho('[', shared, ' ', os.path.basename(__file__), ']')")
    assert answer.text == "Bbefore.incGET [1 x.py] Abehind.inc12"


def test_a_change_in_one_of_them_is_seen(site):
    assert site.run("echo('x')").text.startswith("B")
    (site.around / "before.inc").write_text("import os; shared = 'new'\n")
    assert site.run("echo('x')").text == "x Abehind.incnew"


@pytest.mark.parametrize("end", ["exit()", "exit('')", "import sys; sys.exit(0)"])
def test_a_script_that_exits_is_not_followed(site, end):
    """As in PHP; code that has to run in any case belongs into register_shutdown_function()."""
    assert site.run(f"echo('x')\n{end}").text == "Bbefore.incGET x"


def test_nothing_runs_after_an_exception(site):
    answer = site.run("1/0")
    assert (answer.status, " A" in answer.text) == (500, False)
    (site.around / "before.inc").write_text("1/0")
    answer = site.run("open('ran', 'x')")
    assert answer.status == 500 and "before.inc" in answer.log
    assert not (site.root / "ran").exists()


def test_one_that_exits_is_all_there_is(site):
    (site.around / "before.inc").write_text("exit('closed')")
    assert site.run("echo('never')").text == "closed"


@pytest.mark.parametrize(
    ("name", "directive"), [("before.inc", "auto_prepend_file"), ("behind.inc", "auto_append_file")]
)
def test_one_that_is_not_there_is_an_error_that_names_the_directive(site, name, directive):
    path = site.around / name
    path.unlink()
    answer = site.run("echo('x')")
    assert answer.status == 500 and answer.app_status == 255
    assert f"RuntimeError: {directive} = '{path}' cannot run: no such file" in answer.log


def test_a_syntax_error_in_one_of_them_names_its_file(site):
    (site.around / "before.inc").write_text("if\n")
    answer = site.run("echo('x')")
    assert answer.status == 500 and "before.inc" in answer.log and "SyntaxError" in answer.log


def test_what_they_leave_is_let_go_like_what_the_script_leaves(site):
    (site.around / "before.inc").write_text(
        "import os\nclass Last:\n def __del__(self): echo('gone')\nlast = Last(); shared = 0\n"
    )
    assert site.run("echo('x')").text == "x Abehind.inc0gone"
