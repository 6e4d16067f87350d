# %% best-constant
import torch


def best_constant(scores, negatives, mu, gamma):
    exponents = mu * (scores - gamma) + torch.log(torch.tensor(float(negatives))).to(scores)
    loss = 2 / mu * torch.logaddexp(torch.zeros_like(exponents), exponents) - torch.log1p(scores)
    return scores[torch.argmin(loss)]


# %% enhance
import torch


def enhanced(regions, mask, guide, sharpness):
    products = sharpness * torch.einsum("nrf,nf->nr", regions, guide)
    s = torch.softmax(torch.where(mask, products, -torch.inf), dim=1)
    b = s / torch.einsum("nr,nr->n", s, s).sqrt()[:, None]
    return regions + torch.einsum("nr,nf->nrf", b, guide)
