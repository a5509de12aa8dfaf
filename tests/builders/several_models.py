"""Correct programs that train several models which share layers. Each trains two rounds.

Where flags have to change between the steps of two models, they are set before each step: the
one way that is right on every Keras. `Models.once` are the programs that set them once, before
the second model is compiled, which Keras 2 obeys.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

import numpy as np

from tests.stack import keras

L = keras.layers
ROUNDS = 2
RNG = np.random.default_rng(0)

Program = Callable[[], None]
PROGRAMS: Dict[str, Program] = {}
ONCE: Dict[str, Program] = {}
"""Right on Keras 2, which trains each model as it was compiled."""


def program(table: Dict[str, Program]) -> Callable[[Program], Program]:
    def note(make: Program) -> Program:
        table[make.__name__] = make
        return make

    return note


def noise(*shape: int) -> np.ndarray:
    return RNG.normal(size=(32, *shape)).astype("float32")


def ones(width: int = 1) -> np.ndarray:
    return np.ones((32, width), "float32")


def optimizer() -> Any:
    return keras.optimizers.SGD(0.01)


def block(width: int, inputs: int, name: str, activation: Any = None) -> Any:
    return keras.Sequential(
        [L.Input((inputs,)), L.Dense(8), norm(), L.LeakyReLU(), L.Dense(width, activation)],
        name=name,
    )


def norm() -> Any:
    return L.BatchNormalization(momentum=0.8)


def compiled(model: Any, loss: Any = "mse") -> Any:
    model.compile(optimizer(), loss)
    return model


def pretrained(model: Any, width: int) -> Any:
    compiled(model).fit(noise(6), ones(width), verbose=0)
    return model


def over(inputs: int, *parts: Any, name: str) -> Any:
    """A model that calls other models one after the other."""
    x = start = L.Input((inputs,))
    for part in parts:
        x = part(x)
    return keras.Model(start, x, name=name)


def freeze(layers: Sequence[Any], frozen: bool = True) -> None:
    for layer in layers:
        layer.trainable = not frozen


def gan(critic: Any, combined: Any, frozen: Sequence[Any], per_round: int = 1) -> None:
    """Alternate steps of a discriminator and of the combined model; flags before each step."""
    for _ in range(ROUNDS):
        freeze(frozen, False)
        for _ in range(per_round):
            critic.train_on_batch(noise(6), ones())
            critic.train_on_batch(noise(6), 0 * ones())
        freeze(frozen)
        combined.train_on_batch(noise(4), ones())


def dense_gan(loss: str = "mse", per_round: int = 1) -> None:
    critic, generator = compiled(block(1, 6, "critic"), loss), block(6, 4, "generator")
    critic.trainable = False
    gan(critic, compiled(over(4, generator, critic, name="gan"), loss), [critic], per_round)


@program(PROGRAMS)
def least_squares_gan() -> None:
    dense_gan()


@program(PROGRAMS)
def wasserstein_gan_with_five_critic_steps() -> None:
    dense_gan(per_round=5)


@program(PROGRAMS)
def hinge_gan() -> None:
    dense_gan("hinge")


@program(PROGRAMS)
def gan_of_convolutions() -> None:
    critic = keras.Sequential(
        [L.Input((4, 4, 1)), L.Conv2D(4, 3), norm(), L.LeakyReLU(), L.Flatten(), L.Dense(1)]
    )
    generator = keras.Sequential(
        [L.Input((4,)), L.Dense(4), L.Reshape((2, 2, 1)), L.Conv2DTranspose(1, 2, 2), norm()]
    )
    compiled(critic)
    critic.trainable = False
    combined = compiled(over(4, generator, critic, name="gan"))
    for _ in range(ROUNDS):
        critic.trainable = True
        critic.train_on_batch(noise(4, 4, 1), ones())
        critic.trainable = False
        combined.train_on_batch(noise(4), ones())


@program(PROGRAMS)
def gan_whose_discriminator_layers_are_frozen_one_by_one() -> None:
    critic, generator = compiled(block(1, 6, "critic")), block(6, 4, "generator")
    freeze(critic.layers)
    gan(critic, compiled(over(4, generator, critic, name="gan")), critic.layers)


@program(PROGRAMS)
def conditional_gan() -> None:
    label, row = L.Input((2,)), L.Input((6,))
    verdict = L.Dense(1)(norm()(L.Dense(8)(L.Concatenate()([row, label]))))
    critic = compiled(keras.Model([row, label], verdict, name="critic"))
    code, wanted = L.Input((4,)), L.Input((2,))
    made = L.Dense(6)(norm()(L.Dense(8)(L.Concatenate()([code, wanted]))))
    generator = keras.Model([code, wanted], made, name="generator")
    critic.trainable = False
    judged = critic([generator([code, wanted]), wanted])
    combined = compiled(keras.Model([code, wanted], judged, name="gan"))
    for _ in range(ROUNDS):
        critic.trainable = True
        critic.train_on_batch([noise(6), noise(2)], ones())
        critic.trainable = False
        combined.train_on_batch([noise(4), noise(2)], ones())


@program(PROGRAMS)
def auxiliary_classifier_gan() -> None:
    row = L.Input((6,))
    features = norm()(L.Dense(8)(row))
    critic = keras.Model(row, [L.Dense(1)(features), L.Dense(3)(features)], name="critic")
    critic.compile(optimizer(), ["mse", "mse"])
    generator, code = block(6, 4, "generator"), L.Input((4,))
    critic.trainable = False
    combined = keras.Model(code, critic(generator(code)), name="gan")
    combined.compile(optimizer(), ["mse", "mse"])
    for _ in range(ROUNDS):
        critic.trainable = True
        critic.train_on_batch(noise(6), [ones(), ones(3)])
        critic.trainable = False
        combined.train_on_batch(noise(4), [ones(), ones(3)])


@program(PROGRAMS)
def two_generators_and_two_critics_in_a_cycle() -> None:
    critics = [compiled(block(1, 6, f"critic{i}")) for i in range(2)]
    there, back, row = block(6, 6, "there"), block(6, 6, "back"), L.Input((6,))
    freeze(critics)
    moved = there(row)
    cycle = keras.Model(row, [critics[0](moved), critics[1](back(moved)), back(moved)])
    cycle.compile(optimizer(), ["mse", "mse", "mse"])
    for _ in range(ROUNDS):
        freeze(critics, False)
        for critic in critics:
            critic.train_on_batch(noise(6), ones())
        freeze(critics)
        cycle.train_on_batch(noise(6), [ones(), ones(), noise(6)])


@program(PROGRAMS)
def image_translation_with_an_l1_loss() -> None:
    critic, generator = compiled(block(1, 6, "critic")), block(6, 6, "generator")
    critic.trainable = False
    row = L.Input((6,))
    made = generator(row)
    combined = keras.Model(row, [critic(made), made], name="gan")
    combined.compile(optimizer(), ["mse", "mae"])
    for _ in range(ROUNDS):
        critic.trainable = True
        critic.train_on_batch(noise(6), ones())
        critic.trainable = False
        combined.train_on_batch(noise(6), [ones(), noise(6)])


@program(PROGRAMS)
def adversarial_autoencoder() -> None:
    encoder, decoder = block(4, 6, "encoder"), block(6, 4, "decoder")
    critic = compiled(block(1, 4, "critic"))
    critic.trainable = False
    row = L.Input((6,))
    code = encoder(row)
    both = keras.Model(row, [decoder(code), critic(code)], name="both")
    both.compile(optimizer(), ["mse", "mse"])
    for _ in range(ROUNDS):
        critic.trainable = True
        critic.train_on_batch(encoder.predict(noise(6), verbose=0), ones())
        critic.trainable = False
        both.train_on_batch(noise(6), [noise(6), ones()])


@program(PROGRAMS)
def gan_with_an_encoder() -> None:
    encoder, generator = block(4, 6, "encoder"), block(6, 4, "generator")
    critic = compiled(block(1, 6, "critic"))
    critic.trainable = False
    combined = compiled(over(4, generator, critic, name="gan"))
    inverse = compiled(over(6, encoder, generator, name="inverse"))
    for _ in range(ROUNDS):
        gan(critic, combined, [critic])
        inverse.train_on_batch(noise(6), noise(6))


@program(PROGRAMS)
def critic_with_a_frozen_feature_extractor() -> None:
    extractor = pretrained(block(5, 6, "extractor"), 5)
    extractor.trainable = False
    generator, row = block(6, 6, "generator"), L.Input((6,))
    critic = compiled(block(1, 6, "critic"))
    critic.trainable = False
    made = generator(row)
    combined = keras.Model(row, [critic(made), extractor(made)], name="gan")
    combined.compile(optimizer(), ["mse", "mse"])
    for _ in range(ROUNDS):
        critic.trainable = True
        critic.train_on_batch(noise(6), ones())
        critic.trainable = False
        combined.train_on_batch(noise(6), [ones(), noise(5)])


@program(PROGRAMS)
def semi_supervised_gan_with_two_heads_on_one_trunk() -> None:
    row = L.Input((6,))
    features = norm()(L.Dense(8)(row))
    classifier = compiled(keras.Model(row, L.Dense(3)(features), name="classifier"))
    critic = compiled(keras.Model(row, L.Dense(1)(features), name="critic"))
    generator = block(6, 4, "generator")
    critic.trainable = False
    combined = compiled(over(4, generator, critic, name="gan"))
    for _ in range(ROUNDS):
        critic.trainable = True
        classifier.train_on_batch(noise(6), ones(3))
        critic.train_on_batch(noise(6), ones())
        critic.trainable = False
        combined.train_on_batch(noise(4), ones())


def trunk_and_heads(*widths: int) -> Any:
    row = L.Input((6,))
    layers = [L.Dense(8), norm()]
    features = layers[1](layers[0](row))
    heads = [L.Dense(width) for width in widths]
    return layers, heads, [keras.Model(row, head(features)) for head in heads]


@program(PROGRAMS)
def actor_and_critic_on_one_trunk() -> None:
    _, _, models = trunk_and_heads(2, 1)
    actor, critic = (compiled(model) for model in models)
    for _ in range(ROUNDS):
        critic.train_on_batch(noise(6), ones())
        actor.train_on_batch(noise(6), ones(2))


@program(PROGRAMS)
def actor_that_leaves_the_trunk_to_the_critic() -> None:
    trunk, _, (actor, critic) = trunk_and_heads(2, 1)
    compiled(critic)
    freeze(trunk)
    compiled(actor)
    for _ in range(ROUNDS):
        freeze(trunk, False)
        critic.train_on_batch(noise(6), ones())
        freeze(trunk)
        actor.train_on_batch(noise(6), ones(2))


@program(PROGRAMS)
def tasks_with_a_model_of_their_own_each() -> None:
    _, _, models = trunk_and_heads(1, 2, 3)
    for model in models:
        compiled(model)
    for _ in range(ROUNDS):
        for width, model in enumerate(models, start=1):
            model.fit(noise(6), ones(width), verbose=0)


@program(PROGRAMS)
def network_with_a_target_network() -> None:
    online, target = compiled(block(2, 6, "online")), block(2, 6, "target")
    target.trainable = False
    for _ in range(ROUNDS):
        online.train_on_batch(noise(6), target.predict(noise(6), verbose=0))
        target.set_weights(online.get_weights())


@program(PROGRAMS)
def student_that_learns_from_a_frozen_teacher() -> None:
    teacher, student, row = compiled(block(2, 6, "teacher")), block(2, 6, "student"), L.Input((6,))
    teacher.fit(noise(6), ones(2), verbose=0)
    teacher.trainable = False
    gap = L.Subtract()([teacher(row), student(row)])
    compiled(keras.Model(row, gap, name="distiller")).fit(noise(6), 0 * ones(2), verbose=0)


@program(PROGRAMS)
def siamese_network_of_a_compiled_encoder() -> None:
    encoder = compiled(block(4, 6, "encoder"))
    left, right = L.Input((6,)), L.Input((6,))
    gap = L.Dense(1)(L.Subtract()([encoder(left), encoder(right)]))
    siamese = compiled(keras.Model([left, right], gap, name="siamese"))
    siamese.fit([noise(6), noise(6)], ones(), verbose=0)


@program(PROGRAMS)
def triplets_of_one_encoder() -> None:
    encoder = block(4, 6, "encoder")
    rows: List[Any] = [L.Input((6,)) for _ in range(3)]
    joined = L.Concatenate()([encoder(row) for row in rows])
    triplets = compiled(keras.Model(rows, joined, name="triplets"))
    triplets.fit([noise(6), noise(6), noise(6)], ones(12), verbose=0)


@program(PROGRAMS)
def autoencoder_whose_encoder_is_used_frozen() -> None:
    encoder, decoder = block(4, 6, "encoder"), block(6, 4, "decoder")
    compiled(over(6, encoder, decoder, name="autoencoder")).fit(noise(6), noise(6), verbose=0)
    encoder.trainable = False
    probe = over(6, encoder, L.Dense(2), name="probe")
    compiled(probe).fit(noise(6), ones(2), verbose=0)


@program(PROGRAMS)
def classifier_on_a_frozen_encoder_that_is_trained_again() -> None:
    encoder = pretrained(block(4, 6, "encoder"), 4)
    encoder.trainable = False
    classifier = over(6, encoder, L.Dense(2), name="classifier")
    compiled(classifier).fit(noise(6), ones(2), verbose=0)
    encoder.trainable = True
    compiled(classifier).fit(noise(6), ones(2), verbose=0)


@program(PROGRAMS)
def input_that_a_frozen_model_shares() -> None:
    row = L.Input((6,))
    trained = compiled(keras.Model(row, norm()(L.Dense(3)(row)), name="trained"))
    keras.Model(row, L.Dense(2)(row), name="other").trainable = False
    trained.fit(noise(6), ones(3), verbose=0)
    trained.train_on_batch(noise(6), ones(3))


@program(PROGRAMS)
def layers_without_weights_that_a_frozen_model_shares() -> None:
    row, activation, drop = L.Input((6,)), L.ReLU(), L.Dropout(0.1)
    trained = compiled(keras.Model(row, drop(activation(norm()(L.Dense(3)(row))))))
    frozen = keras.Model(row, drop(activation(L.Dense(3)(row))), name="frozen")
    frozen.trainable = False
    trained.fit(noise(6), ones(3), verbose=0)


@program(PROGRAMS)
def domain_classifier_against_the_features() -> None:
    trunk, heads, (labels, domains) = trunk_and_heads(3, 1)
    freeze(trunk)
    compiled(domains)
    freeze(trunk, False)
    freeze(heads[1:])
    compiled(labels)
    for _ in range(ROUNDS):
        freeze(trunk), freeze(heads[1:], False)
        domains.train_on_batch(noise(6), ones())
        freeze(trunk, False), freeze(heads[1:])
        labels.train_on_batch(noise(6), ones(3))


# ------------------------------------------------- flags that are set once (Keras 2)
@program(ONCE)
def classical_gan() -> None:
    critic, generator = compiled(block(1, 6, "critic")), block(6, 4, "generator")
    critic.trainable = False
    combined = compiled(over(4, generator, critic, name="gan"))
    for _ in range(ROUNDS):
        critic.train_on_batch(noise(6), ones())
        combined.train_on_batch(noise(4), ones())


@program(ONCE)
def later_model_that_shares_layers_without_the_model() -> None:
    row = L.Input((6,))
    head = L.Dense(1, name="head")
    out = head(norm()(L.Dense(8)(row)))
    first = compiled(keras.Model(row, out, name="first"))
    head.trainable = False
    second = compiled(keras.Model(row, L.Dense(2)(out), name="second"))
    for _ in range(ROUNDS):
        first.fit(noise(6), ones(), verbose=0)
        second.fit(noise(6), ones(2), verbose=0)


@program(ONCE)
def critic_and_actor_compiled_one_after_the_other() -> None:
    trunk, _, (actor, critic) = trunk_and_heads(2, 1)
    compiled(critic)
    freeze(trunk)
    compiled(actor)
    for _ in range(ROUNDS):
        critic.train_on_batch(noise(6), ones())
        actor.train_on_batch(noise(6), ones(2))


@program(ONCE)
def autoencoder_that_goes_on_beside_a_probe() -> None:
    encoder, decoder = block(4, 6, "encoder"), block(6, 4, "decoder")
    autoencoder = compiled(over(6, encoder, decoder, name="autoencoder"))
    encoder.trainable = False
    probe = compiled(over(6, encoder, L.Dense(2), name="probe"))
    for _ in range(ROUNDS):
        autoencoder.fit(noise(6), noise(6), verbose=0)
        probe.fit(noise(6), ones(2), verbose=0)
