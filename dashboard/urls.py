"""URLs of the dashboard."""

from __future__ import annotations

from django.urls import path

from dashboard import actions, sign_in, views

app_name = "dashboard"

urlpatterns = [
    path("", views.home, name="home"),
    path("favicon.ico", views.favicon),
    path("ui", views.overview, name="overview"),
    path("ui/login", sign_in.sign_in, name="sign_in"),
    path("ui/logout", sign_in.sign_out, name="sign_out"),
    path("ui/color-mode", actions.color_mode, name="color_mode"),
    path("ui/workflow", actions.workflow_create, name="workflow_create"),
    path("ui/slide", actions.slide_upload, name="slide_upload"),
    path("ui/workflow/<str:workflow_id>", views.workflow, name="workflow"),
    path("ui/workflow/<str:workflow_id>/activity", views.activity, name="activity"),
    path("ui/workflow/<str:workflow_id>/cancel", actions.workflow_cancel, name="workflow_cancel"),
    path("ui/workflow/<str:workflow_id>/pause", actions.workflow_pause, name="workflow_pause"),
    path("ui/workflow/<str:workflow_id>/resume", actions.workflow_resume, name="workflow_resume"),
    path("ui/workflow/<str:workflow_id>/retry", actions.workflow_retry, name="workflow_retry"),
    path("ui/workflow/<str:workflow_id>/delete", actions.workflow_delete, name="workflow_delete"),
    path("ui/workflow/<str:workflow_id>/job/<str:job_id>/results", views.results, name="results"),
    path("ui/workflow/<str:workflow_id>/job/<str:job_id>/cancel", actions.job_cancel, name="job_cancel"),
    path("ui/workflow/<str:workflow_id>/job/<str:job_id>/retry", actions.job_retry, name="job_retry"),
    path("ui/job/<uuid:job_uuid>", views.job, name="job"),
]
