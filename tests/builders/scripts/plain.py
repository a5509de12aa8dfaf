"""What a script can see of how it was started, and all the ways to end."""

import argparse
import atexit
import json
import os
import pickle
import signal
import sys
import time


class Thing:
    pass


def work(n):
    return n * n


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("how")
    parser.add_argument("--report")
    args = parser.parse_args()
    main = sys.modules["__main__"]
    names = ("__file__", "__package__", "__spec__", "__doc__", "__cached__")
    print(json.dumps({name: str(getattr(main, name)) for name in names}, sort_keys=True))
    print(sys.argv, sys.path[0], os.getcwd(), sorted(vars(main)), parser.prog)
    print(type(__loader__).__name__, type(__builtins__).__name__, Thing.__module__)
    print(type(pickle.loads(pickle.dumps(Thing()))) is Thing, main.Thing is Thing)
    atexit.register(print, "first registered")
    atexit.register(print, "second registered")
    if args.how == "stdin":
        print(sys.stdin.read(), end="")
    elif args.how == "exit":
        sys.exit(3)
    elif args.how == "exit-text":
        sys.exit("a reason")
    elif args.how == "raise":
        try:
            work(None)
        except TypeError as error:
            raise ValueError("as asked") from error
    elif args.how == "spawn":
        import multiprocessing

        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.map(work, [1, 2, 3]))
    elif args.how == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
    elif args.how == "hook":
        sys.excepthook = lambda kind, value, trace: print("hook", kind.__name__, trace.tb_lineno)
        raise KeyError("x")
