"""Five minutes of load on the cluster of dashboards_test, and the time that a scrape takes."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import dashboards_test  # noqa: E402
import harness  # noqa: E402
import metrics_test  # noqa: E402


class FiveMinutes(dashboards_test.Dashboards):
    seconds = 300

    def check_durations(self, durations):
        self.assertLess(max(durations.values()), 0.05, durations)


class ManyStrings(unittest.TestCase):
    def test_no_client_makes_a_series(self):
        truth = metrics_test.Truth("test_no_client_makes_a_series")
        truth.strings = lambda: 100_000
        truth.test_no_client_makes_a_series()


if __name__ == "__main__":
    harness.main()
