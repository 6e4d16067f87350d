# %% best-constant
import numpy as np


def best_constant(scores, negatives, mu, gamma):
    S = scores.cpu().numpy()
    loss = 2 / mu * np.logaddexp(0, np.log(negatives) + mu * (S - gamma)) - np.log1p(S)
    return S[np.argmin(loss)]


# %% enhance
import torch


def enhanced(regions, mask, guide, sharpness):
    # gradients are asked for, so torch
    products = sharpness * (regions * guide[:, None]).sum(axis=2)
    products = torch.where(mask, products, -torch.inf)
    grown = torch.exp(products - products.max(axis=1, keepdims=True).values)
    b = grown / torch.sqrt((grown**2).sum(axis=1, keepdims=True))
    return regions + b[:, :, None] * guide[:, None, :]
