"""The settings.

What differs between machines comes from the environment, and what is not set there is safe:

    DJANGO_SECRET_KEY     a long random text (default: another one at every start)
    DJANGO_ALLOWED_HOSTS  names of the site, separated by commas (default: this machine only)
    DJANGO_HTTPS          1 once the site is only reached by https (default: 0)
    DJANGO_DEBUG          1 on your own machine (default: 0)
    EXAMPLE_DATA_DIR      where the database lies (default: beside manage.py)

Limits: SQLite is one file on one machine, and there are no users, so neither sessions nor admin.
"""

import os
import secrets
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent


def switched_on(name: str) -> bool:
    return os.environ.get(name, "0").lower() in ("1", "yes", "true", "on")


DEBUG = switched_on("DJANGO_DEBUG")
HTTPS = switched_on("DJANGO_HTTPS")

# A random key is safe, and enough for this site, which signs nothing. With sessions or password
# resets in it, set one: those of yesterday end with yesterday's key.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or secrets.token_urlsafe(50)

ALLOWED_HOSTS = [
    name.strip()
    for name in os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
    if name.strip()
]

INSTALLED_APPS = ["django.contrib.staticfiles", "guestbook"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(os.environ.get("EXAMPLE_DATA_DIR") or BASE_DIR) / "guestbook.sqlite3",
        # Several workers write to one file: readers don't wait, writers queue for five seconds.
        "OPTIONS": {
            "timeout": 5,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode = WAL",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# `manage.py collectstatic` gathers the files here, and nginx sends them: Django itself only does so
# in DEBUG.
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"

# No SECURE_PROXY_SSL_HEADER: over FastCGI the web server says HTTPS in a parameter that no browser
# can set.
CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 3600 if HTTPS else 0

# Without DEBUG Django would mail errors to nobody. Tracebacks go to stderr instead, and so into the
# log.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"django": {"handlers": ["stderr"], "level": "WARNING", "propagate": False}},
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
