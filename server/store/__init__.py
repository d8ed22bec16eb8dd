"""What the server remembers: numbered migrations over SQLite in `$HYBR_DATA`, or over PostgreSQL by `HYBR_DATABASE_URL`.

For whoever stores something here:

    async with database.begin() as connection:          # one transaction; an exception rolls it back
        row = (await connection.execute(text("SELECT ..."), {"owner": owner})).one_or_none()

- On SQLite transactions run one after another. On PostgreSQL they do not (READ COMMITTED), so a change that depends on what was
  read says so in its own statement (`UPDATE ... WHERE version = :version`, `INSERT ... ON CONFLICT DO NOTHING`) and looks at
  `rowcount`.
- SQL is written once, for both: `ON CONFLICT`, `RETURNING`, `coalesce` and `CAST` are in both; times are seconds as floats, JSON
  is TEXT. `server/store/migrate.py` says which words a migration may use for types.
- A test takes the fixture `database` (tests/support/stores.py) and so runs on both.
"""
