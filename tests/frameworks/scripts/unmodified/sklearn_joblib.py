"""A scikit-learn script as its guide on larger data shows: ``partial_fit``, and joblib for a file of its own to go on from."""
# ruff: noqa: PTH105, PTH110, TID251, because it is written as the framework's own examples are

import argparse
import os
import time

import joblib
import numpy as np
from sklearn.linear_model import SGDClassifier


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--round-ms", type=float, default=20.0)
    parser.add_argument("--file", default="state.joblib")
    args = parser.parse_args()
    model, done = SGDClassifier(random_state=1), 0
    if os.path.exists(args.file):
        model, done = joblib.load(args.file)
        print(f"going on after round {done}")
    for number in range(done, args.rounds):
        images = np.random.default_rng(number).normal(size=(64, 16))
        model.partial_fit(images, images[:, :4].argmax(axis=1), classes=np.arange(4))
        time.sleep(args.round_ms / 1000)
        if number % 5 == 4:
            joblib.dump((model, number + 1), args.file + ".new")
            os.replace(args.file + ".new", args.file)
            print(f"round {number + 1} saved")
    np.save("final.npy", model.coef_)


if __name__ == "__main__":
    main()
