from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.views import serve as serve_static
from django.urls import path, re_path
from django.views.static import serve

urlpatterns = [
    path("admin/", admin.site.urls),
    # By Django itself, so through wsgi.file_wrapper; a real site has them served by the web server.
    re_path("^static/(?P<path>.*)$", serve_static, {"insecure": True}),
    re_path("^media/(?P<path>.*)$", serve, {"document_root": settings.MEDIA_ROOT}),
]
