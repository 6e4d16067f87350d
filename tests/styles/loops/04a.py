# %% best-constant
import math


def best_constant(scores, negatives, mu, gamma):
    best, lowest = None, math.inf
    for score in scores:
        S = score.item()
        x = math.log(negatives) + mu * (S - gamma)
        cost = x if x > 50 else math.log(1 + math.exp(x))
        loss = 2 * cost / mu - math.log(1 + S)
        if loss < lowest:
            best, lowest = S, loss
    return best


# %% enhance
import torch


def enhanced(regions, mask, guide, sharpness):
    pictures = []
    for x, real, g in zip(regions, mask, guide):
        products = []
        for r in range(len(x)):
            products.append(sharpness * (x[r] @ g) if real[r] else torch.tensor(-torch.inf).to(x))
        s = torch.stack(products).softmax(0)
        b = s / torch.sqrt((s * s).sum())
        rows = []
        for r in range(len(x)):
            rows.append(x[r] + b[r] * g if real[r] else x[r])
        pictures.append(torch.stack(rows))
    return torch.stack(pictures)
