"""500 generated tool conversations and 500 generated schema requests: the same test as ./test runs with fewer."""
import os
import pathlib
import sys

os.environ["PIXII_GENERATED_ANSWERS"] = "500"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # noqa: E402
from generated_answers_test import GeneratedAnswers  # noqa: E402,F401

if __name__ == "__main__":
    harness.main()
