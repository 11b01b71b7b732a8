"""docs/mutants.md, measured: `PYTHONPATH=tests python -m mutants FOLDER` from the repository's root.

Half a minute for each mutant. FOLDER keeps what was found, so that what is known of the same source is not measured
again, and the programs that were compiled.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import Queue

from mutants.breaking import Found, Workshop, measured_for
from mutants.listed import MUTANTS
from mutants.mutant import Mutant
from mutants.page import PAGE, filled

WORKERS = 2


def measure(folder: Path) -> dict[str, Found]:
    """What noticed each mutant, by what is wrong in it; written down after each."""
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / "found.json"
    known: dict[str, dict] = json.loads(store.read_text("utf-8")) if store.exists() else {}
    # Of the source as it is now, whatever is written while mutants run.
    key = {mutant.what: measured_for(mutant) for mutant in MUTANTS}
    left = [mutant for mutant in MUTANTS if key[mutant.what] not in known]
    if left:
        shops = [Workshop(folder, number) for number in range(WORKERS)]
        if (sound := shops[0].sound()).by_verify or sound.raw:
            raise SystemExit(f"error: the source as it is fails: {sound}; no mutant could tell anything")
        free: Queue[Workshop] = Queue()
        for shop in shops:
            free.put(shop)

        def find(mutant: Mutant) -> tuple[Mutant, Found]:
            shop = free.get()
            try:
                return mutant, shop.found(mutant)
            finally:
                free.put(shop)

        with ThreadPoolExecutor(WORKERS) as pool:
            # Every second one first: a run that is stopped then says something of every stage.
            for mutant, found in pool.map(find, left[::2] + left[1::2]):
                known[key[mutant.what]] = asdict(found)
                store.write_text(json.dumps(known, indent=1), "utf-8")
                sys.stderr.write(f"{mutant.what}: {found}\n")
    found = {mutant.what: known[key[mutant.what]] for mutant in MUTANTS}
    return {
        what: Found(tuple(each["laws"]), tuple(each["raw"]), each["stopped"], each["test"])
        for what, each in found.items()
    }


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text("utf-8"), measure(Path(sys.argv[1]))), "utf-8")
