"""The site that the documentation calls https://shop.example/: forms, a login, feeds."""

from __future__ import annotations

from urllib.parse import parse_qs

from tests.servers.web import Answer, Reply, Seen, html, redirect, text

__all__ = ["ORDERS", "STOCK", "annex"]

ORDERS = {"ann": ["a blue pot", "two cups"], "bob": ["a kettle"]}
STOCK = (("p-1", "Blue pot", "19.90", 4), ("p-2", "White pot, small", "1,200.00", 0))
PASSWORD = "sesame"
TOKEN = "t-17"

LOGIN = f"""<form id=login method=post action=/session>
<input type=hidden name=token value={TOKEN}><input name=user><input type=password name=password>
<button>Log in</button></form>"""

SEARCH = """<form id=search action=/results><input name=q>
<input type=checkbox name=sold_out checked>
<select name=sort><option>name<option selected>price</select>
<button name=go value=1>Search</button></form>"""

NEWS = """<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>
<item><title>Pots are\u200b back</title><pubDate>Sun, 03 Mar 2024 10:00:00 GMT</pubDate></item>
<item><title>Closed on Monday</title><pubDate>Fri, 01 Mar 2024 08:30:00 GMT</pubDate></item>
</channel></rss>"""


def annex(seen: Seen) -> Answer:
    """What the site answers."""
    path, _, query = seen.path.partition("?")
    match (seen.method, path):
        case ("GET", "/search"):
            return html(SEARCH)
        case ("GET", "/results"):
            return _results({name: values[0] for name, values in parse_qs(query).items()})
        case ("GET", "/login"):
            return html(LOGIN)
        case ("POST", "/session"):
            return _logged_in({n: v[0] for n, v in parse_qs(seen.body.decode()).items()})
        case ("GET", "/account"):
            return _account(seen.cookies.get("user", ""))
        case ("GET", "/stock.csv"):
            rows = "".join(f'{sku},"{name}","{price}",{n},x\n' for sku, name, price, n in STOCK)
            return Reply(f"sku,name,price,stock,note\n{rows}".encode(), type="text/csv")
        case ("GET", "/news.rss"):
            return Reply(NEWS.encode(), type="application/rss+xml")
        case ("GET", "/api/pots"):
            return Reply(
                b'{"pots": [{"name": "Blue pot", "price": 19.9}]}', type="application/json"
            )
        case ("POST", "/api/pots"):
            return Reply(b'{"asked": ' + seen.body + b"}", type="application/json")
    return text("no such page", 404)


def _results(asked: dict[str, str]) -> Answer:
    if asked != {"q": asked.get("q"), "sort": "price", "go": "1"}:
        return text(f"not what a browser would send: {asked}", 400)
    names = [name for _, name, _, _ in STOCK if asked["q"] in name]
    return html("".join(f"<p class=result>{name}</p>" for name in names))


def _logged_in(sent: dict[str, str]) -> Answer:
    user = sent.get("user", "")
    if (sent.get("password"), sent.get("token")) != (PASSWORD, TOKEN) or user not in ORDERS:
        return html("<p>Wrong name or password</p>" + LOGIN, 403)
    return redirect("/account", ("Set-Cookie", f"user={user}; Path=/"), status=303)


def _account(user: str) -> Answer:
    if user not in ORDERS:
        return redirect("/login")
    orders = "".join(f"<li>{order}</li>" for order in ORDERS[user])
    return html(f"<h1>{user}</h1><ul id=orders>{orders}</ul><a href=/logout>Log out</a>")
