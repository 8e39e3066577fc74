"""The application of test_wsgi_frameworks, as Django has it."""

from __future__ import annotations

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse

settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="only for this test", DEBUG=False, USE_TZ=True
)


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse("index")


def hello(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(f"hello {name}, {request.GET.get('q', '')}, {reverse('index')}")


def form(request: HttpRequest) -> HttpResponse:
    return HttpResponse("|".join([request.POST["name"], request.POST["text"]]))


def moved(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect(reverse("hello", args=["there"]))


urlpatterns = [
    path("", index, name="index"),
    path("hello/<name>", hello, name="hello"),
    path("form", form),
    path("moved", moved),
]

application = get_wsgi_application()
