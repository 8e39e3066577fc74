"""Write into the guest book: GET shows the form; POST checks what came, and keeps it or says what is wrong."""

from html import escape

from guestbook import database, form, page, pictures

from pyfpm import _FILES, _SERVER, session_start

LONGEST = {"name": 60, "message": 2000}

page.accept_only("GET", "HEAD", "POST")
session_start()

fields = {name: form.field(name) for name in LONGEST}
wrong: dict[str, str] = {}


def check() -> None:
    if not form.is_ours():
        wrong["form"] = "This form has expired. Please send it again."
    for name, longest in LONGEST.items():
        if not fields[name]:
            wrong[name] = "Please fill this in."
        elif len(fields[name]) > longest:
            wrong[name] = f"At most {longest} characters, please."
    # What hides in a form that people don't see, programs fill in.
    if form.field("website"):
        wrong["form"] = "That did not look like a person."
    if not wrong and not database.may("write", _SERVER["REMOTE_ADDR"]):
        wrong["form"] = "That was a lot at once. Please come back in some minutes."


def accept() -> None:
    try:
        picture = pictures.keep(_FILES.get("picture"))
    except pictures.Refused as reason:
        wrong["picture"] = str(reason)
        return
    database.add(fields["name"], fields["message"], picture)
    page.go_to("index.py?thanks")


def error(name: str) -> str:
    return f"<em class=error>{escape(wrong[name])}</em>" if name in wrong else ""


if _SERVER["REQUEST_METHOD"] == "POST":
    check()
    if not wrong:
        accept()

page.show(
    "Write",
    f"""{error("form")}
<form method=post enctype="multipart/form-data">
{form.token()}
<label>Name {error("name")}
<input name=name required maxlength={LONGEST["name"]} autocomplete=name value="{escape(fields["name"])}"></label>
<label>Message {error("message")}
<textarea name=message required rows=6 maxlength={LONGEST["message"]}>
{escape(fields["message"])}</textarea></label>
<label>Picture (up to 5 MB) {error("picture")}
<input type=file name=picture accept="image/jpeg,image/png,image/gif,image/webp"></label>
<label class=trap aria-hidden=true>Website <input name=website tabindex=-1 autocomplete=off></label>
<button>Send</button>
</form>""",
    422 if wrong else 200,
)
