"""Lesson 06 in plain loops."""

# %% whole-picture
import torch


def whole_picture(output, class_token, registers):
    vectors = []
    for picture in output:
        if class_token:
            vectors.append(picture[0])
            continue
        places = picture.flatten(1).T if picture.ndim == 3 else picture[registers:]
        total = 0 * places[0]
        for place in places:
            total = total + place
        vectors.append(total / len(places))
    return torch.stack(vectors)


# %% pool-boxes
import torch


def pool_boxes(cells, boxes):
    rows, columns = len(cells), len(cells[0])
    pooled = []
    for x1, y1, x2, y2 in boxes.tolist():
        total, area = 0 * cells[0, 0], 0.0
        for r in range(rows):
            height = min(y2, (r + 1) / rows) - max(y1, r / rows)
            for c in range(columns):
                width = min(x2, (c + 1) / columns) - max(x1, c / columns)
                if width > 0 and height > 0:
                    total = total + width * height * cells[r, c]
                    area += width * height
        pooled.append(total / area)
    return torch.stack(pooled)


# %% fold-recall
def fold_recall(scores, image_of_caption, folds, k):
    size, table = len(scores) // folds, scores.tolist()
    found, asked = [0] * folds, [0] * folds
    for caption, own in enumerate(image_of_caption.tolist()):
        fold = own // size
        ahead = 0
        for picture in range(fold * size, (fold + 1) * size):
            if picture != own and table[picture][caption] >= table[own][caption]:
                ahead += 1
        asked[fold] += 1
        if ahead < k:
            found[fold] += 1
    return sum(100 * f / a for f, a in zip(found, asked)) / folds


# %% corrected-recall
def corrected_recall(recall, fits):
    h = 0
    for fit in fits.tolist():
        if fit:
            h += 1
    n, z = len(fits), 1.96
    centre = (h + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * (h * (n - h) / n + z * z / 4) ** 0.5
    corrected = []
    for share in (centre - half, h / n, centre + half):
        corrected.append(recall + (100 - recall) * share)
    return corrected


# %% recall-by-cause
def recall_by_cause(captions, hits, causes):
    found, asked = {}, {}
    for caption, hit in zip(captions, hits.tolist()):
        words = "".join(c.lower() if c.isalnum() else " " for c in caption).split()
        groups = [cause for cause in causes if any(word in causes[cause] for word in words)]
        for group in groups if groups else ["none"]:
            asked[group] = asked.get(group, 0) + 1
            found[group] = found.get(group, 0) + hit
    return {group: (100 * found[group] / asked[group], asked[group]) for group in asked}


# %% parameter-groups
def parameter_groups(model, rate, share):
    pretrained = [id(p) for p in model.pretrained.parameters()]
    rest, own = [], []
    for p in model.parameters():
        if id(p) not in pretrained:
            rest.append(p)
        elif share == 0:
            p.requires_grad = False
        else:
            own.append(p)
    if share == 0:
        for part in model.pretrained.modules():
            part.training = False
        return [{"params": rest, "lr": rate}]
    return [{"params": rest, "lr": rate}, {"params": own, "lr": share * rate}]
