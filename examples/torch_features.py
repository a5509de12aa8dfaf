"""A frozen ResNet-18 of torch.nn as feature extractor under a Keras student: is it frozen?

KERAS_BACKEND=torch python torch_features.py
"""

import _picture
import keras
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import keras_bnguard as bng

images, digits = load_digits(return_X_y=True)
images = images.reshape(-1, 1, 8, 8).astype("float32") / 16  # channels first, as torch has them
LOSS = "sparse_categorical_crossentropy"
source, x, y = digits < 5, images[digits >= 5], digits[digits >= 5] - 5
train, held_out = (x[:120], y[:120]), (x[120:620], y[120:620])


def conv(before, after, *shape):
    return nn.Conv2d(before, after, *shape, bias=False), nn.BatchNorm2d(after)


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        first, second = conv(before, after, 3, stride, 1), conv(after, after, 3, 1, 1)
        self.body = nn.Sequential(*first, nn.ReLU(), *second)
        self.shortcut = nn.Sequential(*conv(before, after, 1, stride) if stride > 1 else ())

    def forward(self, x):
        return nn.functional.relu(self.body(x) + self.shortcut(x))


def resnet18(width=8):  # an eighth of the usual
    blocks = [Block(width, width, 1), Block(width, width, 1)]
    for wide in (width * 2, width * 4, width * 8):
        blocks += [Block(wide // 2, wide, 2), Block(wide, wide, 1)]
    stem = *conv(1, width, 3, 1, 1), nn.ReLU()
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Student(keras.Model):
    def __init__(self, extractor):
        super().__init__()
        self.extractor = keras.layers.TorchModuleWrapper(extractor, name="extractor")
        self.head = keras.layers.Dense(5, "softmax", name="head")

    def call(self, x, training=None):
        features = self.extractor(x, training=training)
        return {"features": features, "outputs": self.head(features)}


def student(learning_rate, trainable):
    keras.utils.set_random_seed(1)
    (extractor := resnet18()).load_state_dict(pretrained)
    (model := Student(extractor)).extractor.trainable = trainable
    model.compile(keras.optimizers.Adam(learning_rate), {"features": None, "outputs": LOSS})
    return model, model.predict(x[:1], verbose=0)["features"]


def report(name, model, before, findings=""):
    model.extractor.module.train()  # what a torch script does before its loop
    outputs = model.predict(held_out[0], verbose=0)["outputs"]
    accuracy[name] = 100 * float(np.mean(outputs.argmax(1) == held_out[1]))
    after = model.predict(x[:1], verbose=0)["features"]
    same = "same bits" if np.array_equal(before, after) else "other"
    print(f"{name:28s} {accuracy[name]:5.1f} %; features of an image: {same} {findings}".rstrip())


accuracy, EPOCHS = {}, {"batch_size": 16, "epochs": 15, "verbose": 0}
keras.utils.set_random_seed(0)
whole = nn.Sequential(backbone := resnet18(), nn.Linear(64, 5))
optimizer = torch.optim.Adam(whole.parameters(), 3e-3)
data = [torch.tensor(part[source]) for part in (images, digits)]
for _ in range(5):  # the pretraining
    for rows in torch.randperm(len(data[0])).split(32):
        optimizer.zero_grad()
        nn.functional.cross_entropy(whole(data[0][rows]), data[1][rows]).backward()
        optimizer.step()
pretrained = backbone.state_dict()
for name in ("frozen, as Keras has it", "frozen, bng.force_inference"):
    model, before = student(1e-2, trainable=False)
    if name == "frozen, bng.force_inference":
        bng.force_inference(model)
    model.fit(*train, **EPOCHS, callbacks=[guard := bng.BNGuard(on_finding=lambda finding: None)])
    report(name, model, before, " ".join(guard.report.codes))
with bng.force_inference(model, "*"):  # a call without `training` is in training mode there
    model(x[:32])
report("called, forced inference", model, before)
model(x[:32])
report("called as it is", model, before)
model, before = student(1e-3, trainable=True)
model.fit(*train, **EPOCHS)
report("fine-tuned", model, before)
_picture.bars(accuracy, "accuracy on 500 held-out digits, %")
