# `make check` runs what continuous integration runs.
.PHONY: check quick full format site

check:
	bash .ci/run

quick:
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyright --pythonpath .venv/bin/python
	.venv/bin/pytest -n auto --dist loadfile -m "not full"

full:
	.venv/bin/pytest -n auto --dist loadfile

format:
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

site:
	.venv/bin/mkdocs build
