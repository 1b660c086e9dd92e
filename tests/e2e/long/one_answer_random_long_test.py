"""Promise 1 over many drawn arrangements: the same test as ./test runs with few; the seed is another one each time."""
import os
import pathlib
import random
import sys

os.environ.setdefault("PIXII_ONE_ANSWER_SEED", str(random.SystemRandom().randrange(2**31)))
os.environ.update(PIXII_ONE_ANSWER_ROUNDS="60", PIXII_ONE_ANSWER_REQUESTS="60", PIXII_ONE_ANSWER_CASES="8")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402
from one_answer_random_test import OneAnswerHowever  # noqa: E402,F401

if __name__ == "__main__":
    harness.main()
