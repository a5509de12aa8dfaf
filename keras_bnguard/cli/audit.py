"""`bnguard audit FILE`: audit a saved model without running any code that came with it."""

from __future__ import annotations

import argparse

from keras_bnguard.cli.model_files.loading import load
from keras_bnguard.guard.audit import audit
from keras_bnguard.report.formats import PRINTED, TEXT, format_named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .keras or .h5 file, or a SavedModel folder")
    parser.add_argument("--output-format", choices=PRINTED, default=TEXT.name)
    parser.add_argument("--select", metavar="CODES", help="rules to run: BNG2,BNG401 or ALL")
    parser.add_argument("--ignore", metavar="CODES", help="rules to ignore")


def run(arguments: argparse.Namespace) -> int:
    report = audit(load(arguments.file), select=arguments.select, ignore=arguments.ignore)
    format_named(arguments.output_format).print(report)
    return int(bool(report.warnings_and_errors))
