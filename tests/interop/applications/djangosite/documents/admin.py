from django.contrib import admin

from djangosite.documents.models import Document

admin.site.register(Document)
