"""A plugin of pytest that writes down the tests that pass."""

import os


def pytest_runtest_logreport(report):
    if report.when == "call" and report.passed:
        with open(os.environ["KEEPSAKE_ORM_PASSES"], "a") as passes:
            print(report.nodeid, file=passes)
