"""How many cases each test tries: few by default, ENERGYLENS_HOSTILE_CASES in a long run."""

import os

N_CASES = int(os.environ.get("ENERGYLENS_HOSTILE_CASES", "60"))
