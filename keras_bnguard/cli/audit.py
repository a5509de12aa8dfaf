"""`bnguard audit FILE`: look at a saved model without running anything that came with it."""

from __future__ import annotations

import argparse

from keras_bnguard.cli.model_file import load
from keras_bnguard.guard.audit import audit
from keras_bnguard.report import FORMATS, rendered
from keras_bnguard.report.terminal import print_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .keras or .h5 file, or a SavedModel folder")
    parser.add_argument("--output-format", choices=FORMATS, default="text")
    parser.add_argument("--select", metavar="CODES", help="rules to run: BNG2,BNG401 or ALL")
    parser.add_argument("--ignore", metavar="CODES", help="rules to leave out")


def run(arguments: argparse.Namespace) -> int:
    report = audit(load(arguments.file), select=arguments.select, ignore=arguments.ignore)
    if arguments.output_format == "text":
        print_report(report)
    else:
        print(rendered(report, arguments.output_format), end="")
    return int(any(finding.severity != "info" for finding in report.findings))
