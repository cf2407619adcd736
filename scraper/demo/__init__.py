"""The bundled bookshop: a small web site with the habits of real ones, for the demo and for tests.

::

    content.py   what the shop sells: 1,024 books in 51 categories, computed, the same everywhere
    pages.py     the HTML around them, marked up like books.toscrape.com
    site.py      which path answers what: a pure function of the path
    server.py    HTTP/1.1 on loopback: keep-alive, cookie wall, an outage that ends, a request log
"""

from scraper.demo.server import DemoShop, Hit, serve_in_thread
from scraper.demo.site import Site

__all__ = ["DemoShop", "Hit", "Site", "serve_in_thread"]
