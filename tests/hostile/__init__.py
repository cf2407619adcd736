"""The hostile web: each numbered case of the catalogue, its input, and the promised outcome.

A test says which case it proves by a mark, ``@pytest.mark.case(13, "a body cut short", "…")``;
`recording` keeps what the suite's last whole run proved, and the documentation's table is made of
that. ``make hostile`` runs all cases, wherever their tests lie, and writes the record anew.
"""
