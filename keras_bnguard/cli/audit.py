"""`bnguard audit FILE`: audit a saved model without running any code that came with it."""

from __future__ import annotations

import argparse
import sys

from keras_bnguard.cli.model_files.loading import load
from keras_bnguard.guard.audit import audit
from keras_bnguard.report.files import check_writable, not_written
from keras_bnguard.report.formats import ENDINGS, PRINTED, TEXT, format_named, format_of
from keras_bnguard.report.text import short

USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .keras or .h5 file, or a SavedModel folder")
    parser.add_argument("--output-format", choices=PRINTED, default=TEXT.name)
    parser.add_argument("--select", metavar="CODES", help="rules to run: BNG2,BNG401 or ALL")
    parser.add_argument("--ignore", metavar="CODES", help="rules to ignore")
    parser.add_argument(
        "--report", metavar="FILE", help=f"also write the report to a file: {', '.join(ENDINGS)}"
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="print every BN, and each rule not checked"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.report:
        format_of(arguments.report)
        check_writable(arguments.report)
    report = audit(load(arguments.file), select=arguments.select, ignore=arguments.ignore)
    form = format_named(arguments.output_format)
    if form is TEXT and not arguments.verbose:
        print(short(report), end="")
    else:
        form.print(report)
    if arguments.report:
        try:
            report.save(arguments.report)
        except OSError as error:
            print(f"bnguard audit: {not_written(arguments.report, error)}", file=sys.stderr)
            return USAGE
        print(f"report written to {arguments.report}", file=sys.stderr)
    return int(bool(report.warnings_and_errors))
