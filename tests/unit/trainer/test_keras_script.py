"""A script that certainly gives the Keras callback to two fits is found by its source, and no other one."""

import ast

import pytest

from supervisor.trainer.callbacks.keras_script import second_in

TWICE = {
    "in one block": """
        model.fit(x, callbacks=[supervisor.KerasCallback()])
        model.fit(x, callbacks=[EarlyStopping(), KerasCallback()])
    """,
    "by a name": """
        callbacks = [supervisor.KerasCallback()]
        print("warm-up")
        first = model.fit(x, callbacks=callbacks)
        model.trainable = True
        second = model.fit(x, callbacks=callbacks)
    """,
    "in a function": """
        def main():
            kept = supervisor.KerasCallback()
            model.fit(x, callbacks=[kept])
            if verbose:
                print("on")
            other.fit(x, callbacks=[kept])
    """,
}
ONCE = {
    "the second without it": """
        model.fit(x, callbacks=[supervisor.KerasCallback()])
        model.fit(x)
    """,
    "one or the other": """
        if stage == 1:
            model.fit(x, callbacks=[supervisor.KerasCallback()])
        else:
            model.fit(x, callbacks=[supervisor.KerasCallback()])
    """,
    "an end between them": """
        model.fit(x, callbacks=[supervisor.KerasCallback()])
        if not more:
            sys.exit()
        model.fit(x, callbacks=[supervisor.KerasCallback()])
    """,
    "a return between them": """
        def main():
            model.fit(x, callbacks=[supervisor.KerasCallback()])
            if done:
                return
            model.fit(x, callbacks=[supervisor.KerasCallback()])
    """,
    "a name that is something else too": """
        callbacks = [supervisor.KerasCallback()]
        model.fit(x, callbacks=callbacks)
        callbacks = []
        model.fit(x, callbacks=callbacks)
    """,
    "in functions of their own": """
        def one():
            model.fit(x, callbacks=[supervisor.KerasCallback()])
        def two():
            model.fit(x, callbacks=[supervisor.KerasCallback()])
    """,
    "a loop": """
        for fold in folds:
            model.fit(x, callbacks=[supervisor.KerasCallback()])
    """,
    "a scaler": """
        scaler.fit(x)
        model.fit(x, callbacks=[supervisor.KerasCallback()])
    """,
}


def second(text):
    lines = text.strip("\n").splitlines()
    return second_in(ast.parse("\n".join(line[8:] for line in lines)))


@pytest.mark.parametrize("form", TWICE)
def test_a_second_fit_with_the_callback_is_found_before_the_first(form):
    line = second(TWICE[form])
    assert line is not None
    assert ".fit(" in TWICE[form].strip("\n").splitlines()[line - 1]
    assert line > 1


@pytest.mark.parametrize("form", ONCE)
def test_what_may_be_one_fit_is_left_alone(form):
    assert second(ONCE[form]) is None
