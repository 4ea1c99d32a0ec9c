"""The fixtures of `page_site.py`; a module of this name there is in other folders too."""

from page_site import chromium, open_page, site

__all__ = ["chromium", "open_page", "site"]
