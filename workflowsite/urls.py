"""Where each room's URLs begin."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("scheduling.api.urls")),
    path("", include("dashboard.urls")),
]

handler400 = "scheduling.api.exceptions.bad_request"
handler404 = "scheduling.api.exceptions.not_found"
handler500 = "scheduling.api.exceptions.server_error"
