"""Lesson 06 in einsum, where a product is to be written."""

# %% whole-picture
import torch


def whole_picture(output, class_token, registers):
    if output.ndim == 4:
        return torch.einsum("ndhw->nd", output) / output[0, 0].numel()
    if class_token:
        return output[:, 0]
    return torch.einsum("ntd->nd", output[:, registers:]) / (output.shape[1] - registers)


# %% pool-boxes
import torch


def pool_boxes(cells, boxes):
    def shared(low, high, count):
        start = torch.arange(count).to(boxes) / count
        ends = torch.minimum(high[:, None], start + 1 / count)
        return (ends - torch.maximum(low[:, None], start)).clamp(min=0)

    x1, y1, x2, y2 = boxes.unbind(1)
    weights = torch.einsum("rh,rw->rhw", shared(y1, y2, cells.shape[0]), shared(x1, x2, cells.shape[1]))
    return torch.einsum("rhw,hwc->rc", weights, cells) / torch.einsum("rhw->r", weights)[:, None]


# %% fold-recall
import torch


def fold_recall(scores, image_of_caption, folds, k):
    fold_of_picture = torch.arange(len(scores), device=scores.device) // (len(scores) // folds)
    picture = torch.nn.functional.one_hot(fold_of_picture, folds).double()
    caption = picture[image_of_caption]
    own = scores[image_of_caption, torch.arange(scores.shape[1], device=scores.device)]
    ranks = torch.einsum("nf,nm,mf->m", picture, (scores >= own).double(), caption)
    found = torch.einsum("m,mf->f", (ranks <= k).double(), caption) / torch.einsum("mf->f", caption)
    return 100 * found.mean()


# %% corrected-recall
import torch


def corrected_recall(recall, fits):
    fits = fits.double()
    h, n, z2 = torch.einsum("n,n->", fits, fits), len(fits), 1.96**2
    centre, half = (h + z2 / 2) / (n + z2), (z2 * (h * (n - h) / n + z2 / 4)).sqrt() / (n + z2)
    shares = torch.stack([centre - half, h / n, centre + half])
    return 100 - torch.einsum(",s->s", torch.tensor(100.0 - recall).double(), 1 - shares)


# %% recall-by-cause
import re

import torch


def recall_by_cause(captions, hits, causes):
    words = [set(re.findall(r"\w+", caption.lower())) for caption in captions]
    names = [*causes, "none"]
    table = torch.tensor([[len(own & causes[c]) > 0 for c in causes] + [True] for own in words])
    table[:, -1] = ~table[:, :-1].any(dim=1)
    number = torch.einsum("mc->c", table.double())
    found = torch.einsum("mc,m->c", table.double(), hits.double())
    return {c: (float(100 * f / n), int(n)) for c, f, n in zip(names, found, number) if n > 0}


# %% parameter-groups
def parameter_groups(model, rate, share):
    mine = set(map(id, model.pretrained.parameters()))
    rest = {"params": [p for p in model.parameters() if id(p) not in mine], "lr": rate}
    if share > 0:
        return [rest, {"params": list(model.pretrained.parameters()), "lr": rate * share}]
    model.pretrained.eval().requires_grad_(False)
    return [rest]
