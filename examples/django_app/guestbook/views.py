"""The guest book.

Limits: no log-in and no guard against spam, so it isn't one for the open Internet.
"""

from django.db import connection
from django.forms import ModelForm, Textarea
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from guestbook.models import Entry

SHOWN = 50


class EntryForm(ModelForm):
    class Meta:
        model = Entry
        fields = ("name", "message")
        widgets = {"message": Textarea(attrs={"rows": 4})}


@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    form = EntryForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        form.save()
        # The browser fetches the page anew, so that reloading it doesn't send the form twice.
        return redirect("index")
    context = {"form": form, "entries": Entry.objects.order_by("-id")[:SHOWN]}
    return render(request, "guestbook/index.html", context, status=422 if form.errors else 200)


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """For a monitor: an answer means that a worker and the database are well."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})
