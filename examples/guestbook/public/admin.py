"""Remove entries: for whoever knows the password in GUESTBOOK_ADMIN (``python -m guestbook.password`` makes it)."""

from html import escape

from guestbook import database, form, page, password, pictures

from pyfpm import (
    _GET,
    _SERVER,
    _SESSION,
    error_log,
    session_destroy,
    session_regenerate_id,
    session_start,
)

page.accept_only("GET", "HEAD", "POST")
session_start()
error = ""


def log_in() -> str:
    """Returns what was wrong."""
    if not database.may("login", _SERVER["REMOTE_ADDR"]):
        return "Too many attempts. Please come back in a quarter of an hour."
    if not password.is_right(form.field("password")):
        error_log(f"guest book: wrong password from {_SERVER['REMOTE_ADDR']}")
        return "That is not the password."
    # An id that somebody has planted before the login is worth nothing after it.
    session_regenerate_id(True)
    _SESSION["admin"] = True
    page.go_to("admin.py")
    return ""


def remove() -> None:
    entry = form.field("entry")
    if entry.isdecimal() and len(entry) < 19:
        picture = database.remove(int(entry))
        if picture is not None:
            pictures.remove(picture)
    page.go_to("admin.py")


if _SERVER["REQUEST_METHOD"] == "POST":
    action = form.field("action")
    if not form.is_ours():
        error = "This form has expired. Please send it again."
    elif action == "log in":
        error = log_in()
    elif action == "log out":
        session_destroy()
        page.go_to("index.py")
    elif action == "remove" and _SESSION.get("admin"):
        remove()
    else:
        error = "You are not logged in."

notice = f"<p class=error>{escape(error)}</p>" if error else ""
status = 403 if error else 200

if not password.is_set():
    page.show("Admin", "<p>No password is set: GUESTBOOK_ADMIN is missing in pyfpm's environment.", 503)
elif not _SESSION.get("admin"):
    page.show(
        "Admin",
        f"""{notice}
<form method=post>
{form.token()}
<label>Password <input type=password name=password required autocomplete=current-password></label>
<button name=action value="log in">Log in</button>
</form>""",
        status,
    )
else:
    before = str(_GET.get("before", ""))
    entries, older = database.page_of_entries(int(before) if before.isdecimal() and len(before) < 19 else None)
    rows = "\n".join(
        f"""<form method=post class=row>
{form.token()}
<input type=hidden name=entry value={entry.id}>
<span>{escape(entry.name)}: {escape(entry.message[:80])}</span>
<button name=action value=remove>Remove</button>
</form>"""
        for entry in entries
    )
    more = f'<p><a href="?before={older}">Older entries</a>' if older is not None else ""
    page.show(
        "Admin",
        f"""{notice}
{rows or "<p>There is nothing to remove."}
{more}
<form method=post>
{form.token()}
<button name=action value="log out">Log out</button>
</form>""",
        status,
    )
