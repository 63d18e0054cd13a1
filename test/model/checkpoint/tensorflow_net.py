"""The network of a preset in TensorFlow's own operators, weights read from the bundle by TensorFlow.

  python3 tensorflow_net.py FOLDER ...     reads FOLDER/in.json and FOLDER/NAME.raw, writes FOLDER/OUTPUT.raw (float32)
"""
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow as tf

folder = job = file = None


def has(name):
    return file.has_tensor(name)


def read(name):
    item = next(i for i in job["inputs"] if i["name"] == name)
    return np.fromfile("%s/%s.raw" % (folder, name), item["type"]).reshape(item["shape"])


def norm(x, scope, eps):
    g = file.get_tensor(scope + "/gamma") if has(scope + "/gamma") else 1.0
    s = lambda what: file.get_tensor(scope + "/" + what)
    return (x - s("moving_mean")) / np.sqrt(s("moving_variance") + eps) * g + s("beta")


def finish(y, scope, eps):
    if has(scope + "/biases"):
        return y + file.get_tensor(scope + "/biases")
    return norm(y, scope + "/BatchNorm", eps)


def conv(x, scope, stride, eps=1e-3):
    return finish(tf.nn.convolution(x, file.get_tensor(scope + "/weights"), stride, "SAME"), scope, eps)


def deconv(x, scope, stride):
    w = file.get_tensor(scope + "/weights")
    _, t, f, _ = x.shape
    shape = [1, t * stride[0], f * stride[1], w.shape[2]]
    return finish(tf.nn.conv2d_transpose(x, w, shape, stride, "SAME"), scope, 1e-5)


def block(x, scope, stride):
    if has(scope + "_short/weights"):
        short = conv(x, scope + "_short", stride)
    else:
        short = x[tuple([slice(None)] + [slice(None, None, s) for s in stride])]
    one = [1] * len(stride)
    y = conv(tf.nn.relu(conv(x, scope + "_1", stride)), scope + "_2", one)
    return tf.nn.relu(norm(y + short, scope + "_bn", 1e-3))


def sound(samples, frames):
    a = np.sign(samples) * np.log1p(255 * np.abs(samples)) / np.log(256)
    x = tf.constant(a.astype(np.float32)[:, :, None, :])
    x = tf.nn.relu(conv(x, "sf/conv1_1", [4, 4]))
    x = tf.nn.max_pool2d(x, [4, 1], [4, 1], "VALID")
    for name in "234":
        x = block(x, "sf/conv%s_1" % name, [4, 1])
    ratio = float(np.float32((x.shape[1] - 1) / frames))
    x = tf.raw_ops.FractionalMaxPool(value=x, pooling_ratio=[1, ratio, 1, 1], pseudo_random=True, overlapping=False,
                                     deterministic=True, seed=1, seed2=2).output
    return tf.nn.relu(conv(x, "sf/conv5_1", [1, 1]))


def trunk(fine):
    x = -1 + (2 / 255) * read("video").astype(np.float32)
    x = tf.nn.relu(conv(x, "im/conv1", [2, 2, 2]))
    x = tf.nn.max_pool3d(x, [1, 3, 3], [1, 2, 2], "SAME")
    scale0 = x = block(block(x, "im/conv2_1", [1, 1, 1]), "im/conv2_2", [2, 2, 2])
    _, t, h, w, c = x.shape
    s = sound(read("samples"), t)
    net = tf.concat([x, tf.tile(s[:, :, :, None, :], [1, 1, h, w, 1])], -1)
    short = tf.concat([net[..., :c], net[..., -c:]], -1)
    y = conv(tf.nn.relu(conv(net, "im/merge1", [1, 1, 1])), "im/merge2", [1, 1, 1])
    x = tf.nn.relu(norm(y + short, "im/merge_block_bn", 1e-3))
    scale1 = x = block(block(x, "im/conv3_1", [1, 1, 1]), "im/conv3_2", [1, 1, 1])
    x = block(block(x, "im/conv4_1", [2, 2, 2]), "im/conv4_2", [1, 1, 1])
    x = block(block(x, "im/conv5_1", [1, 1, 1] if fine else [1, 2, 2]), "im/conv5_2", [1, 1, 1])
    logits = lambda v: conv(v, "joint/logits", [1, 1, 1])
    write("logit", logits(tf.reduce_mean(x, [1, 2, 3], keepdims=True)))
    write("cam", logits(x))
    return scale0, scale1, x


def unet(scales):
    db, phase = read("db"), read("phase")
    x = tf.constant(np.stack([2 * (db + 100) / 180 - 1, phase / np.pi], -1)[:, :, :1024].astype(np.float32))
    skips = []
    for i in range(1, 10):
        y = conv(x, "gen/conv%d" % i, [1, 2] if i < 3 else [2, 2], 1e-5)
        x = 0.6 * y + 0.4 * tf.abs(y)
        if scales and 3 <= i <= 5:
            v = tf.reduce_mean(scales[i - 3], [2, 3])[:, :, None, :]
            v = tf.compat.v1.image.resize_bilinear(v, [x.shape[1], 1], align_corners=False, half_pixel_centers=False)
            x = y = tf.concat([x, tf.tile(v, [1, 1, x.shape[2], 1])], -1)
        skips.append(y)
    x = deconv(tf.nn.relu(skips[8]), "gen/deconv1", [2, 2])
    for i in range(2, 9):
        x = deconv(tf.nn.relu(tf.concat([x, skips[9 - i]], -1)), "gen/deconv%d" % i, [1, 2] if i == 8 else [2, 2])
    x = tf.nn.relu(tf.concat([x, skips[0]], -1))
    for part in ("fg", "bg"):
        o = deconv(x, "gen/" + part, [1, 2])
        last = np.full_like(phase[:, :, 1024:], -100)
        write(part + "_db", tf.concat([90 * (tf.tanh(o[..., 0]) + 1) - 100, last], -1))
        write(part + "_phase", tf.concat([np.pi * tf.tanh(o[..., 1]), phase[:, :, 1024:]], -1))


def write(name, value):
    np.asarray(value, np.float32).tofile("%s/%s.raw" % (folder, name))


for folder in sys.argv[1:]:
    job = json.load(open(folder + "/in.json"))
    file = tf.train.load_checkpoint(job["prefix"])
    names = {i["name"] for i in job["inputs"]}
    scales = trunk(job["preset"] == "cam") if "video" in names else None
    if "db" in names:
        unet(scales)
