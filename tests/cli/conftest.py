"""The admin API for these tests."""

from admin_api import admin

__all__ = ["admin"]
