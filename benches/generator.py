"""The step that trains a generator of images and its latents, written by hand in PyTorch."""

import torch
import torch.nn.functional as F

from programs import Program

EPSILON = 1e-5
SLOPE = 0.2
LEAST_VARIANCE = 1e-6


class Generator:
    """A generator and the loss of what it makes, as the bench `steps --kind generator` describes them in `about`."""

    def __init__(self, folder, about, channels_last, moments):
        self.about, self.channels_last, self.moments = about, channels_last, moments
        self.teacher = Program(folder / "teacher.onnx")
        self.normals = []
        for normal in about["normals"]:
            mean, deviation, before = (torch.tensor(normal[key]) for key in ("mean", "deviation", "before"))
            spread = ((deviation * before) ** 2 + LEAST_VARIANCE).sqrt()
            self.normals.append((mean * before, spread, before))
        self.teacher.outputs = [normal["tensor"] for normal in about["normals"]]
        self.channel_means, self.channel_deviations = torch.tensor(about["channels"]).T.reshape(2, 1, -1, 1, 1)
        self.swing()
        if channels_last:
            self.teacher.constants = {
                name: value.contiguous(memory_format=torch.channels_last)
                if isinstance(value, torch.Tensor) and value.dim() == 4 else value
                for name, value in self.teacher.constants.items()
            }

    def swing(self):
        """Lets what convolutions with strides read be moved as it is fed."""
        feeds = self.about["feeds"][2 if self.about["augment"] else 0:-1]
        places = {tensor: [f"feed.{2 * i}", f"feed.{2 * i + 1}"] for i, tensor in enumerate(self.about["swings"])}
        self.swings = dict(zip([name for pair in places.values() for name in pair], feeds))
        for i, (kind, _, inputs, outputs) in enumerate(self.teacher.calls):
            if kind == "Identity" and outputs[0] in places:
                self.teacher.calls[i] = kind, moved, inputs + places[outputs[0]], outputs

    def images(self, weights, latents):
        parts = dict(zip([name for name, _ in self.about["weights"]], split(weights, self.about["weights"])))

        def norm(h, name):
            return F.batch_norm(h, None, None, parts[f"{name}.gain"], parts[f"{name}.shift"], True, 0, EPSILON)

        latents = split(latents, self.about["latents"])[0]
        h = F.linear(latents, parts["first"].T)
        convolutions = [name for name in parts if name.startswith("conv") and "." not in name]
        width = parts["first.gain"].shape[0]
        height, length = (-(-side // 2 ** (len(convolutions) + 1)) for side in self.about["size"])
        h = norm(h.reshape(-1, width, height, length), "first")
        h = h.contiguous(memory_format=torch.channels_last) if self.channels_last else h
        for name in convolutions:
            h = F.conv2d(F.interpolate(h, scale_factor=2, mode="nearest"), parts[name], padding=1)
            h = F.leaky_relu(norm(h, name), SLOPE)
        h = F.conv2d(F.interpolate(h, scale_factor=2, mode="nearest"), parts["last"], padding=1).tanh()
        h = h[:, :, :self.about["size"][0], :self.about["size"][1]]
        h = F.batch_norm(h, None, None, None, None, True, 0, EPSILON)
        mean, deviation = (parts[name].reshape(1, -1, 1, 1) for name in ("mean", "std"))
        h = h * (self.channel_deviations * deviation.exp()) + (self.channel_means + self.channel_deviations * mean)
        return h.clamp(*self.about["interval"])

    def loss(self, vectors, feeds):
        x = self.images(vectors["weights"], vectors["latents"])
        if self.about["augment"]:
            x = moved(x, *(feeds[name] for name in self.about["feeds"][:2]))
        swings = {name: feeds[feed] for name, feed in self.swings.items()}
        loss = 0
        tapped = self.teacher.run({self.about["input"]: x, **swings})
        for tensor, (mean, spread, before) in zip(tapped, self.normals):
            found_variance, found_mean = self.moments(tensor)
            found_spread = (found_variance * before**2 + LEAST_VARIANCE).sqrt()
            loss = loss + ((found_mean * before - mean) ** 2 + (found_spread - spread) ** 2).mean()
        return loss


def split(vector, entries):
    sizes = [torch.Size(shape).numel() for _, shape in entries]
    return [part.reshape(shape) for part, (_, shape) in zip(vector.split(sizes), entries)]


def moved(x, rows, columns):
    return x.index_select(2, rows).index_select(3, columns)


def var_mean(x):
    return torch.var_mean(x, (0, 2, 3), correction=0)


def by_means(x):
    """Returns what `var_mean` does, which is slow on the CPU, by means alone."""
    mean = x.mean((0, 2, 3), keepdim=True)
    return (x - mean).square().mean((0, 2, 3)), mean.flatten()
