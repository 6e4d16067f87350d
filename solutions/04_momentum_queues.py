# %% [markdown] run_minutes=4
# # 04 · Momentum queues: negatives beyond the batch
#
# Lesson 03 left one thing as it was: a query is compared with the other pairs of its batch, and with nothing else. A large GPU allows a large batch. Without one, a query meets few *negatives*, pictures or captions that do not belong to it. MoCo (2020) found more of them elsewhere: it keeps the vectors of *earlier* batches in a queue. USER (2024) brings this to images and captions, with a loss of its own.
#
# This lesson goes back to the models of lesson 01, with one vector for each picture and one for each caption. A score is then a single dot product, so a query can afford thousands of negatives.
#
# **At the end you can**
#
# - measure what more negatives are worth, with everything else held equal;
# - write USER's loss so that it cannot overflow, and say how hard it pushes each negative;
# - write a queue of vectors, and the *[momentum](../docs/GLOSSARY.md#momentum)* step by which a second encoder slowly follows the first;
# - choose a momentum from measurements, and say what goes wrong when the second encoder follows too fast or too slowly;
# - find the right answers that hide among a queue's negatives;
# - train USER with all of this, in your own code.
#
# **Time** about {{minutes}} minutes with all 7 exercises. **You need** lessons 01 and 03.

# %% tags=["parameters"]
import os

# profile: "smoke" (seconds), "quick" (a laptop), "full" (a GPU)
# data: "scenes", "entities" (photographs with boxes), or "flickr8k", "flickr30k", "coco"; root = the folder that holds them
profile = os.environ.get("ITR_PROFILE", "quick")
device = "auto"
seed = 0
data = "scenes"
root = ""

# %%
from dataclasses import replace
import numpy as np
import torch
import torch.nn.functional as F
from itr_lib import data as itr_data, figures, inference
from itr_lib.checks import check, library
from itr_lib.lessons import open_lesson, recipes, timing, watch
from itr_lib.momentum import FeatureQueue, key_encoder, to_device

# %%
lesson = open_lesson(
    "04_momentum_queues", profile=profile, device=device, seed=seed, data=data, root=root
)
splits, tokenizer = lesson.load()
recipe = recipes.user(profile, data, seed)
B, K = recipe.training.batch_size, recipe.model.queue_size
print(f"USER in this profile: batches of {B}, a queue of {K:,}")

# %% [markdown]
# ## 1. What a batch limits
#
# A batch of $B$ pairs gives a matrix of $B \times B$ scores. Each query, a row or a column, sees its own partner and $B - 1$ negatives. What if an image could also see $K$ captions of earlier batches? The matrix would get $K$ more columns. (Where one is marked *own*, it belongs to the image of that row and is no negative. Section 5 is about those.)

# %%
title = "A batch compares each query with a few others; a queue adds columns, not rows"
alt = (
    "Left: the 4 x 4 scores of a batch, partners on the diagonal. Right: 8 more columns, captions"
    " of earlier batches, negatives all but one, which belongs to the picture of its row."
)
lesson.show(figures.batch_and_queue(title=title), alt)

# %% [markdown]
# First: are more negatives worth anything? It is tempting to train with batches of 8, 16 and 128, and to compare. But in one epoch, batches of 128 take a sixteenth of the steps that batches of 8 take. Two things change at once.
#
# So change the negatives *alone*. Every step below takes 16 pairs, in groups of 2, 4, 8 or 16. A query sees only its own group, and the other pairs are masked. Steps, pairs and work stay the same; a query has 1, 3, 7 or 15 negatives. These runs were made once, with three seeds, and recorded.

# %% tags=["key-figure"]
names = {size - 1: f"batch 16, groups of {size}" for size in (2, 4, 8)} | {15: "batch 16"}
runs = {negatives: lesson.runs(name) for negatives, name in names.items()}
if all(runs.values()):
    title = "What are more negatives worth, at the same steps and pairs?"
    lesson.show(figures.recall_against(runs, "negatives of a query", title))
else:
    print("Nothing is recorded for these data: this figure is about the scenes.")

# %% [markdown]
# Compare along the thin lines. Each is one seed: the same first weights, the same pairs in the same order. From text to image every line rises from each point to the next; from image to text one dips at the end. With one negative, R@1 of the three seeds is {{seeds t2i_r1: batch 16, groups of 2}}; with fifteen it is {{seeds t2i_r1: batch 16}}.
#
# **More negatives help, and the first few help most.** A batch of 16 stops at 15 of them. A queue of $K$ captions offers $K$ more. To use them we need three things: a loss that can handle so many, the queue itself, and vectors in it that fit together.
#
# ## 2. A loss for many negatives
#
# USER's loss is called **[UTO](../docs/GLOSSARY.md#unified-training-objective)**, the unified training objective. $S$ is the batch's matrix of cosines: images are rows, captions are columns, and the pairs that belong together stand on the diagonal. $\gamma$ is a threshold and $\mu$ a sharpness, both chosen by hand:
#
# $$ \frac{1}{B} \sum_i \Big[ \underbrace{\tfrac{1}{\mu} \log \big( 1 + \sum_{j} e^{\mu (S_{ij} - \gamma)} \big)}_{\text{image } i \text{ asks}} + \underbrace{\tfrac{1}{\mu} \log \big( 1 + \sum_{j} e^{\mu (S_{ji} - \gamma)} \big)}_{\text{caption } i \text{ asks}} - \underbrace{\log \big( 1 + \max(S_{ii}, \text{floor}) \big)}_{\text{their own score}} \Big] $$
#
# The sums run over negatives only. Here is what pair 0 of a small batch pays:

# %% tags=["nbval-check-output"]
S = torch.tensor([[0.8, 0.4, 0.6], [0.3, 0.7, 0.1], [0.5, 0.2, 0.9]])
mu, gamma = 10.0, 0.5
for who, negatives in (("image 0", S[0, 1:]), ("caption 0", S[1:, 0])):
    grown = torch.exp(mu * (negatives - gamma))
    print(who, "sees", [round(x, 1) for x in negatives.tolist()], end=", exponentials ")
    print([round(x, 2) for x in grown.tolist()], end=", ")
    print(f"pays 1/μ log(1 + sum) = {torch.log(1 + grown.sum()) / mu:.3f}")
print(
    f"their own score of {S[0, 0]:.1f} takes off log(1 + {S[0, 0]:.1f}) = {S[0, 0].log1p():.3f}"
)

# %% [markdown]
# So each direction pays, softly, for how far its highest negatives rise above the threshold $\gamma$. The losses of lesson 01 compared a negative with the query's own partner. UTO compares it with $\gamma$, and raises the partner's score in a term of its own.
#
# Two details. The 1 is $e^0 = e^{\mu (\gamma - \gamma)}$: it stands for one more candidate, whose score is always $\gamma$. And the *floor* keeps the last logarithm finite: a lower score counts as the floor. The paper's floor is 0. We take $-0.9$, so that a pair with a negative score still gets a gradient (appendix 04a shows why a new model needs it).
#
# **Mind the exponential.** In float32, `exp` overflows above 88. With the paper's $\mu = 90$ and $\gamma = 0.5$ the exponent of a cosine is at most 45, and all is well. With a larger $\mu$ or a smaller $\gamma$ it can overflow:

# %% tags=["nbval-check-output"]
for mu, gamma in ((90.0, 0.5), (90.0, 0.0), (300.0, 0.5)):
    x = mu * (torch.tensor([0.99, 0.98]) - gamma)
    naive = torch.log(1 + torch.exp(x).sum()) / mu
    safe = torch.logsumexp(torch.cat([torch.zeros(1), x]), dim=0) / mu
    print(f"μ = {mu:.0f}, γ = {gamma}: as it stands {naive:.4f}   with logsumexp {safe:.4f}")

# %% [markdown]
# The remedy: since $1 = e^0$, put a 0 beside the exponents. Then $\log(1 + \sum e^{x})$ is the `logsumexp` of them all, which subtracts the largest before it takes any exponential (lesson 03).

# %% [markdown] exercise="unified-loss" difficulty=3 minutes=12 points=3
# ### Your turn: UTO in the batch
#
# Write `uto_loss(scores, mu, gamma, same_image, floor)`, the formula above, as one number. `scores` is $(B, B)$. `same_image`, $(B, B)$, is True where image and caption belong together, the diagonal included: such a pair is not a negative. A batch of one pair has no negatives at all. Nothing may overflow, and gradients must flow to `scores`.
#
# <details><summary>Help 1: the idea</summary>
#
# Compute all exponents $\mu (S_{ij} - \gamma)$ at once. Then remove those that do not belong to a negative: for which $x$ is $e^x = 0$? Captions ask along the columns: do the same with the transposed matrix.
# </details>
# <details><summary>Help 2: the 1</summary>
#
# `F.pad(exponents, (1, 0))` puts a column of zeros in front of a matrix. Then one `logsumexp` along the right axis does the rest.
# </details>
# <details><summary>Help 3: the positives</summary>
#
# `scores.diagonal()` holds the scores of the pairs, `clamp` sets a floor, and `log1p(x)` is $\log(1 + x)$. The mean over the $B$ queries comes last.
# </details>


# %% solution="unified-loss"
def uto_loss(scores, mu, gamma, same_image, floor):
    """UTO in the batch, both directions: (B, B), float, float, (B, B) bool, float -> scalar.

    For [[.8, .4, .6], [.3, .7, .1], [.5, .2, .9]], the scores of the small batch above, with
    mu 10, gamma 0.5, the identity as mask and floor 0 it is -0.4303.
    """
    ### BEGIN SOLUTION
    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    rows = F.pad(exponents, (1, 0)).logsumexp(dim=1) / mu
    columns = F.pad(exponents.T, (1, 0)).logsumexp(dim=1) / mu
    return (rows + columns - scores.diagonal().clamp(min=floor).log1p()).mean()
    ### END SOLUTION


# %% check="unified-loss"
uto_loss = check("unified-loss", uto_loss)

# %% [markdown]
# ### How hard is each negative pushed?
#
# A loss teaches through its gradient. Take the first term of row $i$ and its derivative by $S_{ij}$. The $\mu$ of the exponent and the $1/\mu$ in front cancel:
#
# $$ w_{ij} = \frac{e^{\mu (S_{ij} - \gamma)}}{1 + \sum_{k} e^{\mu (S_{ik} - \gamma)}} $$
#
# This is a softmax over the negatives *and* the extra candidate at $\gamma$. The share of that candidate pushes nobody.

# %% [markdown] exercise="unified-weights" difficulty=2 minutes=6 points=2
# ### Your turn: the push
#
# Write `uto_weights(scores, mu, gamma, same_image)`: the $w_{ij}$ of all rows, $(B, B)$, with 0 where `same_image` is True. Compute them from the formula, without autograd, and let nothing overflow.
#
# <details><summary>Help 1: the idea</summary>
#
# It is a softmax along each row, if you give the row one more entry: the 0 for the candidate at $\gamma$.
# </details>
# <details><summary>Help 2: the shape</summary>
#
# Exponents and mask are those of your `uto_loss`. After the softmax there is one column too many. Which one?
# </details>


# %% solution="unified-weights"
def uto_weights(scores, mu, gamma, same_image):
    """How hard UTO pushes each negative of a row: (B, B), float, float, (B, B) bool -> (B, B).

    For the scores of the small batch above, [[.8, .4, .6], ...], with mu 10, gamma 0.5 and the
    identity as mask, row 0 is [0, 0.090, 0.665].
    """
    ### BEGIN SOLUTION
    exponents = (mu * (scores - gamma)).masked_fill(same_image, -torch.inf)
    return F.pad(exponents, (1, 0)).softmax(dim=1)[:, 1:]
    ### END SOLUTION


# %% check="unified-weights"
uto_weights = check("unified-weights", uto_weights)

# %% [markdown]
# What do $\mu$ and $\gamma$ do? On the left, your function weighs a single negative. On the right, it shares one push among 15 negatives, beside two losses of lesson 01: the hinge, which asks for a margin and nothing beyond it, and InfoNCE.

# %%
grid, n = torch.linspace(0, 1, 41), torch.linspace(0.29, 0.64, 15)


def push(negatives, mu):
    """Your weights in one row, whose own partner has a score of 0.7."""
    size = len(negatives) + 1
    row = F.pad(negatives, (1, 0), value=0.7)
    return uto_weights(row.expand(size, size), mu, 0.5, torch.eye(size, dtype=torch.bool))[
        0, 1:
    ]


alone = {f"μ = {mu:.0f}": [float(push(s[None], mu)) for s in grid] for mu in (10.0, 30.0, 90.0)}
losses = {
    "hinge": (0.2 + n > 0.7).float(),
    "InfoNCE, τ = 0.05": torch.softmax(n / 0.05, dim=0),
    "UTO, μ = 30": push(n, 30.0),
    "UTO, μ = 90": push(n, 90.0),
}
shares = {name: (w / w.sum()).tolist() for name, w in losses.items()}
title = "γ sets where a negative begins to count; a higher μ leaves the push to fewer"
lesson.show(figures.push_panels(grid.tolist(), alone, n.tolist(), shares, title))

# %% [markdown]
# The hinge pushes all negatives inside its margin alike. InfoNCE and UTO share the push in proportion to $e^{S / \tau}$ and $e^{\mu S}$: **$\mu$ is an inverse temperature.** With the paper's $\mu = 90$ nearly all of the push goes to the hardest few. That matters in a long queue, where most negatives are easy and many small shares would add up. The course takes $\mu = 30$, which learns faster in our short runs (appendix 04a).
#
# ## 3. A queue
#
# A **key** is a vector, of an image or a caption, that queries are compared with. A queue holds the last $K$ keys: first in, first out. How should it keep them? It could be a list of batches: append one, drop the oldest. But such a list holds exactly $K$ keys only where the batches happen to fit, and it is many tensors instead of one.
#
# Better: take one block of memory with $K$ rows, and never move anything. Number the keys from 0 as they come. Key number $k$ goes to place `k % K` and overwrites the oldest. That is a **[ring buffer](../docs/GLOSSARY.md#ring-buffer)**. In the figure, an arrow points at the next place:

# %%
title = "A ring of 8 places: new keys (dark) replace the oldest"
alt = (
    "A row of 8 places after 0, 3, 6 and 10 keys. An arrow marks the next place. The last batch of"
    " 4 fills places 6 and 7 and goes on at 0 and 1."
)
lesson.show(figures.ring_diagram(title=title), alt)

# %% [markdown] exercise="ring-buffer" difficulty=3 minutes=15 points=4
# ### Your turn: a ring buffer
#
# Two methods are missing.
#
# - `enqueue(keys, ids)` takes keys $(n, D)$ and the image of each, $(n,)$, and counts them in `self.came`. *Any* $n$ is allowed: 0, more than fit before the end of the storage, even more than `size` (then the last ones stay). It stores copies, without a gradient.
# - `oldest_first()` returns the places that are filled, oldest first, as a tensor of whole numbers $(\text{filled},)$. `keys()` and `ids()` read there.
#
# <details><summary>Help 1: the idea</summary>
#
# Key number $k$ stands at place $k$ modulo `size`, wrapped or not. So compute the *numbers* of the keys with `torch.arange(first, last)`, turn them into places, and index with those: `self.stored[places]`. The end of the storage needs no special case.
# </details>
# <details><summary>Help 2: enqueue</summary>
#
# If more than `size` keys come, only the last ones stay, but `came` counts them all. Let `new` be how many stay. Which numbers do they have, once `came` has grown? And `keys.detach()` has no gradient.
# </details>
# <details><summary>Help 3: oldest first</summary>
#
# After `came` keys the newest has the number `came - 1`. Which number does the oldest one still there have, in a full queue, and in one that is not full yet?
# </details>


# %% solution="ring-buffer"
class RingBuffer:
    """The last `size` keys and the image of each, oldest first.

    With size 4, after keys 0 1 2 and then 3 4 5, keys() holds 2 3 4 5, and the storage 4 5 2 3.
    """

    def __init__(self, size, dim):
        self.size = size
        self.stored = torch.zeros(size, dim)
        self.owners = torch.full((size,), -1)
        self.came = 0  # keys so far

    def enqueue(self, keys, ids):
        """Add keys (n, dim) and the images they belong to, (n,)."""
        ### BEGIN SOLUTION
        new, self.came = min(len(keys), self.size), self.came + len(keys)
        places = torch.arange(self.came - new, self.came) % self.size
        self.stored[places] = keys.detach()[len(keys) - new :]
        self.owners[places] = ids[len(ids) - new :]
        ### END SOLUTION

    def oldest_first(self):
        """The filled places, (filled,), oldest first."""
        ### BEGIN SOLUTION
        return torch.arange(max(0, self.came - self.size), self.came) % self.size
        ### END SOLUTION

    def keys(self):
        """(filled, dim), oldest first. Indexing with a tensor copies."""
        return self.stored[self.oldest_first()]

    def ids(self):
        """(filled,), in the same order."""
        return self.owners[self.oldest_first()]


# %% check="ring-buffer"
RingBuffer = check("ring-buffer", RingBuffer)

# %% [markdown]
# The library's `FeatureQueue` adds one thing: its storage belongs to the model, and goes with it to a GPU and into a checkpoint. If this process died now, the library's queue could be restored; yours would be lost.

# %% tags=["nbval-check-output"]
ring, queue = RingBuffer(4, 1), FeatureQueue(4, 1)
for first, ids in ((0, [7, 8, 9]), (3, [7, 5, 6])):
    keys = torch.arange(first, first + 3.0)[:, None]
    ring.enqueue(keys, torch.tensor(ids))
    queue.enqueue(keys, torch.tensor(ids))
    print("keys", ring.keys()[:, 0].int().tolist(), "of the images", ring.ids().tolist())
print("in a checkpoint of the library's:", *queue.state_dict())

# %% [markdown]
# ## 4. Keys must move slowly
#
# Do the keys in a queue fit together? Every step brings $B$ new ones, so in a full queue the oldest are $K / B$ steps old. An age counts steps, since the encoder changes once a step, however many pairs that step takes.

# %%
lesson.say(f"Here $K / B$ is {K:,} / {B}: the oldest keys are **{K // B} steps** old.")

# %% [markdown]
# A vector that the encoder made so long ago may mean nothing to the encoder of today.
#
# MoCo's answer: let another encoder make the keys, a copy that follows slowly. Let $q$ be the weights of the encoder that is trained, and $k$ those of this **[key encoder](../docs/GLOSSARY.md#key-encoder)**. At every step
#
# $$ k \leftarrow m \, k + (1 - m) \, q $$
#
# with a **momentum** $m$ near 1. No gradient reaches $k$. At $m = 0$ the key encoder *is* the encoder. Besides weights, a module may hold *buffers*: numbers that it keeps but does not train, such as running means. Those are simply copied.

# %% [markdown] exercise="momentum-step" difficulty=2 minutes=6 points=2
# ### Your turn: one momentum step
#
# Write `momentum_step(target, source, momentum)` for two modules of the same architecture. It moves the parameters of `target` (the key encoder) towards those of `source`, **in place**, copies the buffers of `source`, and returns nothing. `source` stays as it is, and autograd records nothing.
#
# <details><summary>Help 1: the idea</summary>
#
# Walk through the parameters of both modules side by side, then through their buffers, all of it under `with torch.no_grad():`.
# </details>
# <details><summary>Help 2: in place</summary>
#
# `k = m * k + (1 - m) * q` makes a new tensor, which the module never sees. Methods whose names end in `_` change a tensor itself: `mul_`, `add_`, `copy_`, and `lerp_(end, weight)`, which goes part of the way.
# </details>


# %% solution="momentum-step"
def momentum_step(target, source, momentum):
    """target <- momentum * target + (1 - momentum) * source, in place; buffers are copied.

    A weight of 1.0 that follows a weight of 2.0 with momentum 0.9 becomes 1.1.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        for k, q in zip(target.parameters(), source.parameters(), strict=True):
            k.lerp_(q, 1 - momentum)
        for k, q in zip(target.buffers(), source.buffers(), strict=True):
            k.copy_(q)
    ### END SOLUTION


# %% check="momentum-step"
momentum_step = check("momentum-step", momentum_step)

# %% [markdown]
# How slow is slow? A key encoder remembers about $1 / (1 - m)$ steps: 10 at $m = 0.9$, 100 at 0.99, 1,000 at 0.999.
#
# **Watch it happen.** The next cell trains USER's encoders with your loss, without a queue. Four key encoders follow, moved by your step; nothing uses them yet. Only here the batches are larger, so that one epoch needs fewer steps. Now and then we look at validation pairs and ask, in three panels:
#
# - Left: how close is a follower's vector of a caption to the encoder's own? That is how far it lags behind.
# - Middle: does an image find its caption among the *follower's* vectors? That is what keys are for.
# - Right: how close is a key made some steps ago to the one that the *same* follower makes of that caption now? That is how well the keys of one queue fit together.

# %%
uto = {name: getattr(recipe.objective, name) for name in ("mu", "gamma", "floor")}
plain = replace(recipe, model=replace(recipe.model, queue_size=0))
encoder = plain.build(splits.train, tokenizer).to(lesson.device)
followers = {m: key_encoder(encoder).eval() for m in (0.0, 0.9, 0.99, 0.999)}
seen = watch.KeyWatch(encoder, followers, lesson)


def watched(model, batch, epoch):
    """An objective like any other; beside it the followers move, and are looked at."""
    for m, follower in followers.items():
        momentum_step(follower, model, m)
    seen.look()
    images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)
    return uto_loss(model.scores(images, captions), same_image=batch.same_image, **uto)


larger = replace(plain.training, batch_size=32)  # an epoch of fewer steps
history = lesson.train(encoder, watched, larger, label="followed by four")

# %% tags=["key-figure"]
title = "Four key encoders: how far behind, how useful, how well their keys fit together"
references = {"two different captions": seen.other_captions()}
curves = (seen.steps, seen.closeness(), seen.found, seen.ages(), seen.kept(), references)
lesson.show(figures.follower_curves(*curves, title))

# %%
age = seen.nearest_age(K / B)  # what was looked at, nearest to the oldest keys of the queue
agree = seen.at_age(age)
rows = [f"| {m:g} | {seen.found[m][-1]:.1f} | {agree[m]:.2f} |" for m in followers]
lesson.say(
    f"| momentum | R@1 among its keys (%) | cosine of a key {age} steps old with the key made now |\n"
    "| --- | --- | --- |\n" + "\n".join(rows)
)
lesson.record(
    follower_r1_0=seen.found[0.0][-1],
    follower_r1_99=seen.found[0.99][-1],
    follower_r1_999=seen.found[0.999][-1],
)

# %% [markdown]
# Read the right panel first. At momentum 0 a caption's key drifts away from the key that it would get now. A queue of such keys mixes the vectors of many different encoders. The slower the follower, the better its keys agree.
#
# Now the middle panel. The slowest follower's keys agree, but they are stale: much of them is still the random start, and images hardly find their captions there. A queue needs **keys that fit together *and* mean something**. Can you turn that into a rule?

# %% [markdown] exercise="choose-momentum" difficulty=2 minutes=8 points=2
# ### Your turn: choose a momentum
#
# Write `choose_momentum(momenta, recalls, kept, share)`. The first three are $(C,)$, one entry for each candidate: its momentum, the recall among its keys, and how well keys of the queue's age agree with those made now (a mean cosine: it may lie below 0). Leave out the candidates whose recall is below `share` times the highest recall. Of the others, return the momentum with the highest `kept`, as a float. Candidates come in any order.
#
# <details><summary>Help 1: the idea</summary>
#
# First, a mask of the candidates that find enough. Then, the place of the highest `kept` among those. Then, the momentum at that place.
# </details>
# <details><summary>Help 2: a trap</summary>
#
# `kept[mask].argmax()` is a place in the *shortened* list. Either shorten `momenta` in the same way, or do not shorten at all.
# </details>


# %% solution="choose-momentum"
def choose_momentum(momenta, recalls, kept, share):
    """The momentum whose keys agree best, of those that find enough: (C,), (C,), (C,), float -> float.

    Momenta [0, .9, .99, .999] with recalls [20, 22, 18, 1] and kept [.6, .65, .8, .99]: with
    share 0.75 it is 0.99. (The limit is 16.5, and .999 finds too little.)
    """
    ### BEGIN SOLUTION
    enough = recalls >= share * recalls.max()
    return float(momenta[enough][kept[enough].argmax()])
    ### END SOLUTION


# %% check="choose-momentum"
choose_momentum = check("choose-momentum", choose_momentum)

# %%
measured = (list(followers), [seen.found[m][-1] for m in followers], list(agree.values()))
momentum = choose_momentum(*map(torch.tensor, measured), share=0.75)
lesson.say(f"Measured in this run, your rule chooses **momentum {momentum:g}**.")

# %% [markdown]
# What does training say? The recorded runs below differ in the momentum alone; *no queue* stands beside them. (They have the paper's floor of 0, with which a run may never start. That happened to one of the three without a queue, and to one with momentum 0: appendix 04a.)

# %%
names = ("momentum 0", "momentum 0.9", "momentum 0.99", "momentum 0.999", "no queue")
variants = {
    f"{name}, floor 0": "USER (queue)" if name.endswith(" 0.99") else name for name in names
}
lesson.compare(variants, metrics=("i2t_r1", "t2i_r1", "loss"), bars=False)

# %% [markdown]
# With fast keys, at momentum 0 and 0.9, every run ends at chance: training **collapses**. Section 6 watches one do so. At 0.99 and 0.999 every run learns, and three seeds cannot tell which of the two is better.
#
# **A rule for a small budget.** Keep the memory of the momentum, $1 / (1 - m)$ steps, a small part of the run, and not far below the age of the queue, $K / B$ steps. The momentum is the first number to change when you take somebody's recipe to a run of another length.
#
# ## 5. The loss against a queue
#
# An image $i$ asks a queue of caption keys. Its positive is the key that the key encoder makes of its *own* caption, now. The letters are vectors this time: queries $q_i$, positive keys $k_i^+$ and queued keys $k_0 \dots k_{K-1}$.
#
# $$ \frac{1}{B} \sum_i \Big[ \tfrac{1}{\mu} \log \big( 1 + \sum_{j} e^{\mu (q_i \cdot k_j - \gamma)} \big) - \log \big( 1 + \max(q_i \cdot k_i^+, \text{floor}) \big) \Big] $$
#
# Captions ask a queue of image keys in the same way. Both terms are added to the loss in the batch.
#
# There is a trap. Every picture has five captions. The queue may hold another caption of the picture that asks, and then the loss pushes a right answer away: a **false negative**, as in lesson 01. The remedy: the queue carries the image of each key. A key of the query's own image is no negative *for that query*, but it remains one for all others.

# %% [markdown] exercise="queue-loss" difficulty=3 minutes=10 points=3
# ### Your turn: UTO against a queue
#
# Write `queue_loss(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor)`, the formula above for one direction, as one number. The first three hold unit vectors: $(B, D)$, $(B, D)$ and $(K, D)$. `image_ids`, $(B,)$, is the image of each query, `queue_ids`, $(K,)$, that of each queued key. Queued keys of a query's own image are not its negatives. The queue may be empty. As before, nothing overflows, and gradients flow to `queries`.
#
# <details><summary>Help 1: the idea</summary>
#
# A matrix product gives the scores: a row for each query, a column for each key. The rest is one direction of your `uto_loss`. Only the mask and the positive are new.
# </details>
# <details><summary>Help 2: the mask</summary>
#
# It is $(B, K)$: True where a key belongs to the query's own image. Compare a column of ids with a row of ids: `a[:, None] == b`. Not `torch.isin`: that would leave out a key for *all* queries.
# </details>
# <details><summary>Help 3: the positive</summary>
#
# The positive of query $i$ is key $i$ and no other: multiply the two matrices entry by entry, and sum along each row.
# </details>


# %% solution="queue-loss"
def queue_loss(queries, positive_keys, queue_keys, image_ids, queue_ids, mu, gamma, floor):
    """UTO against a queue: (B, D), (B, D), (K, D), (B,), (K,), three floats -> scalar.

    Query [[1, 0]] of image 3, positive key [[.6, .8]], queue [[.8, .6], [0, 1]] of images 3 and
    4, mu 10, gamma 0.5 and floor 0: -0.4693.
    """
    ### BEGIN SOLUTION
    exponents = mu * (queries @ queue_keys.T - gamma)
    exponents = exponents.masked_fill(image_ids[:, None] == queue_ids, -torch.inf)
    negatives = F.pad(exponents, (1, 0)).logsumexp(dim=1) / mu
    positives = (queries * positive_keys).sum(dim=1).clamp(min=floor).log1p()
    return (negatives - positives).mean()
    ### END SOLUTION


# %% check="queue-loss"
queue_loss = check("queue-loss", queue_loss)

# %% [markdown]
# How often is there anything to mask? Count it before you build a queue for data of your own.

# %% [markdown] exercise="false-negatives" difficulty=3 minutes=10 points=3
# ### Your turn: right answers among the negatives
#
# Write `false_negatives(batches, size)`. `batches` is a list of tensors $(n,)$, one for each batch in the order of training: the image of each caption in it. Before each batch the queue holds the last `size` captions that came. Of all queries that meet a *full* queue, what percentage finds a caption of its own picture in it? Return a float; where the queue never fills, it is 0.
#
# <details><summary>Help 1: the idea</summary>
#
# Go through the batches and keep what came. Ask first, then add: a batch is not yet in the queue that it asks.
# </details>
# <details><summary>Help 2: the share</summary>
#
# Batches may have different lengths. So collect an answer for every query, and take one mean at the end. `torch.isin(batch, came)` answers for a whole batch.
# </details>


# %% solution="false-negatives"
def false_negatives(batches, size):
    """Queries with a caption of their own picture in a full queue: list of (n,) ints, int -> percent.

    Batches [0, 1], [2, 3], [0, 4], [3, 2] and a queue of 4: the third batch meets 0 1 2 3, the
    fourth 2 3 0 4. Three of these four queries find their picture: 75.
    """
    ### BEGIN SOLUTION
    came, found = torch.zeros(0, dtype=torch.long), []
    for batch in batches:
        if len(came) == size:
            found.append(torch.isin(batch, came))
        came = torch.cat([came, batch])[-size:]
    return 100 * float(torch.cat(found).double().mean()) if found else 0.0
    ### END SOLUTION


# %% check="false-negatives"
false_negatives = check("false-negatives", false_negatives)

# %%
owner, counted = splits.train.image_of_caption, {}
for name, rounds in (("as they come", False), ("in rounds", True)):
    order = itr_data.epoch_order(owner, B, np.random.default_rng(seed), unique_images=rounds)
    counted[name] = false_negatives([torch.from_numpy(owner[rows]) for rows in order], K)
lesson.record(false_negatives=counted["in rounds"])
lesson.say(
    f"Captions in any order: **{counted['as they come']:.0f} %** of the queries meet a caption of"
    f" their own picture. In rounds, one caption of every picture before the second of any, it is"
    f" **{counted['in rounds']:.0f} %**. That is how the course trains."
)

# %% [markdown]
# On larger data it is rarer. Take $N$ pictures with five captions each, in any order. Each of the four other captions of a query's picture is in the queue with a chance of about $K / 5N$. For COCO's 113,287 pictures and 4,096 keys that adds up to $4 \cdot 4096 / (5 \cdot 113287)$, 3 % of the queries. With few pictures, or a long queue, you need the mask.
#
# ## 6. Train USER
#
# You have every part now. A step encodes the batch, moves the key encoders, makes keys, compares with the batch and with both queues, and only *then* enqueues the keys. The losses, the queues and the momentum step in it are yours. (Your ring is no part of the model, so it does not move to a GPU by itself: `to_device` takes it there.)


# %%
class QueueTraining:
    """USER's objective: your losses, two of your queues, and two key encoders that follow."""

    def __init__(self, model, momentum):
        self.momentum, self.leaders = momentum, (model.image_encoder, model.caption_encoder)
        self.followers = [key_encoder(leader) for leader in self.leaders]
        rings = [RingBuffer(K, model.config.dim) for _ in self.leaders]
        self.queues = [to_device(ring, lesson.device) for ring in rings]  # where the keys are

    def __call__(self, model, batch, epoch):
        parts, ids = (batch.images, batch.captions), batch.image_ids
        images, captions = (
            encode(part) for encode, part in zip(self.leaders, parts, strict=True)
        )
        loss = uto_loss(images @ captions.T, same_image=batch.same_image, **uto)
        for follower, leader in zip(self.followers, self.leaders, strict=True):
            momentum_step(follower, leader, self.momentum)
        with torch.no_grad():
            keys = [encode(part) for encode, part in zip(self.followers, parts, strict=True)]
        for queries, new, queue in zip((captions, images), keys, self.queues, strict=True):
            queued, owners = queue.keys().to(new), queue.ids().to(ids)
            loss = loss + queue_loss(queries, new, queued, ids, owners, **uto)
        for new, queue in zip(keys, self.queues, strict=True):
            queue.enqueue(new, ids)
        return loss


# %%
model = plain.build(splits.train, tokenizer).to(lesson.device)
history = lesson.train(model, QueueTraining(model, momentum), recipe.training, label="USER")
scores, metrics = lesson.test(model)
lesson.record(t2i_r1=metrics.t2i_r1, i2t_r1=metrics.i2t_r1, rsum=metrics.rsum)

# %% tags=["key-figure"]
rows = {
    "yours": metrics,
    "USER, recorded": "USER (queue), no clamp",
    "no queue": "no queue, no clamp",
}
title = "USER of this run, beside recorded runs with a queue and without"
lesson.compare(rows, metrics=("i2t_r1", "t2i_r1", "t2i_r10"), title=title)

# %% [markdown]
# Is the queue worth it? For each seed, the recorded runs with and without it have the same first weights, steps and pairs. So look along the lines again:

# %%
pair = {
    "no queue": lesson.runs("no queue, no clamp"),
    "queue": lesson.runs("USER (queue), no clamp"),
}
if all(pair.values()):
    lesson.show(figures.seed_lines(pair, title="Without a queue and with one, seed by seed"))

# %% [markdown]
# Seed by seed, R@1 from text to image is {{seeds t2i_r1: no queue, no clamp}} without a queue and {{seeds t2i_r1: USER (queue), no clamp}} with it; from image to text, {{seeds i2t_r1: no queue, no clamp}} and {{seeds i2t_r1: USER (queue), no clamp}}. **The queue is ahead in every seed**, in batches of 8, where it has most to give. It brings slow positives as well as negatives, so this measures the recipe as a whole.
#
# ### Why fast keys collapse
#
# Why does training with fast keys end at chance? Here are two short runs of yours, one with momentum 0, one with 0.99. At their end we ask: how close are older caption keys to the newest ones? And what score does a picture have, on average, with keys of each age?

# %%
few = splits.train.take(np.arange(min(800, len(splits.train))))
ages = {}
for m in (0.0, 0.99):
    short = plain.build(splits.train, tokenizer).to(lesson.device)
    training = QueueTraining(short, m)
    lesson.train(short, training, recipe.training, data=few, label=f"momentum {m:g}")
    keys = training.queues[1].keys().to(lesson.device).flip(0)  # captions', newest first
    by_step = keys[: len(keys) // B * B].unflatten(0, (-1, B))
    with torch.no_grad():
        picture = short.encode_images(seen.images).mean(dim=0)
    vectors = {"the newest keys": by_step[0].mean(dim=0), "the pictures": picture}
    means = {name: (by_step.mean(dim=1) @ vector).tolist() for name, vector in vectors.items()}
    ages[f"momentum {m:g}"] = means

# %% tags=["key-figure"]
title = "How near are keys of each age to the newest ones, and to the pictures?"
lesson.show(figures.key_ages(ages, title))

# %% [markdown]
# At momentum 0 the captions encoded at one moment are all alike, and *the whole cloud of their vectors turns* as training goes on. A picture scores well with today's captions, whichever they are, and badly with most of the queue. The loss asks for no more. Positives were made now, negatives earlier, so **telling new from old is enough**: no picture need be looked at. Five of the six recorded runs with momentum 0 and 0.9 took this way out: their training loss fell, and their recall stayed at chance. (The sixth never started.)
#
# Momentum 0.99 slows the cloud down. Recent keys stay close to today's, and to tell a positive from *those*, the encoder has to look at the picture.
#
# ## 7. What it costs to search, and what one vector cannot do
#
# What does a search cost now? Nothing changes at inference. Queues and key encoders serve training alone, and a query still takes one dot product with each picture. The table sets its time beside that of lesson 03's scores. Captions ask one by one, as people do who search: the time is that of all scores of one caption, and of the first ten among them. (CHAN's weights are untrained here, which does not change the time.)

# %%
chan = recipes.chan(profile, data, seed)
ways = {
    "CHAN (hard, lse)": chan,
    "soft, lse": replace(chan, model=replace(chan.model, coding="soft")),
}
timed = {name: way.build(splits.train, tokenizer) for name, way in ways.items()}
cost = timing.query_milliseconds(
    {"yours": model} | timed, tokenizer, splits.test, lesson.device
)
found = {name: lesson.recorded(f"03_hard_alignment/{name}", "t2i_r1") for name in timed}
found = {"yours": [metrics.t2i_r1]} | {
    name: values or [np.nan] for name, values in found.items()
}
rows = [f"| {name} | {ms:.2g} | {np.mean(found[name]):.1f} |" for name, ms in cost.items()]
lesson.say(
    f"Every one-vector model ranks {len(splits.test):,} pictures in **{cost['yours']:.2g} ms**.\n\n"
    "| | ms a query | text to image R@1 (lesson 03: recorded) |\n| --- | --- | --- |\n"
    + "\n".join(rows)
)

# %% [markdown]
# One dot product costs the least and finds the least. The training budgets differ: one epoch in small batches here, five epochs in batches of 128 there. Is there anything that more negatives do not teach? Take the twins of lesson 01: on *swaps* two objects have exchanged an attribute, on *replacements* one attribute is new:

# %%
twin_choices = lesson.answer("twin-choices")  # yours, of lesson 01
for kind, probe in splits.probes.items():
    prefer = float(twin_choices(inference.score(model, tokenizer, probe, device=lesson.device)))
    name = {"replaces": "replacements"}.get(kind, kind)
    lesson.say(f"{name}: {prefer:.1f} % of the captions prefer their own picture (chance: 50)")
    lesson.record(**{kind: prefer})
lesson.clock()

# %% [markdown]
# On swaps a coin would do as well. The queue brings more *other* pictures, but another picture hardly ever shows the same objects with an attribute exchanged. So its negatives hardly ever ask which object has which colour.
#
# ## What you have now
#
# | idea | in a line | in the library |
# | --- | --- | --- |
# | UTO | negatives against $\gamma$, softly; $\mu$ is an inverse temperature | `unified_loss` |
# | queue | the last $K$ keys in a ring, with the image of each | `FeatureQueue` |
# | momentum | keys that fit together *and* mean something | `momentum_update` |
# | queue loss | up to $K$ negatives a query; the query's own picture masked | `unified_queue_loss` |
# | the price | one dot product a pair | `timing.query_milliseconds` |
#
# **What you should have seen** on the scenes (quick profile, 1,000 test images, three seeds, lowest to highest):
#
# | what | text to image R@1 | image to text R@1 | swaps |
# | --- | --- | --- | --- |
# | no queue, batches of 8 | {{t2i_r1: no queue, no clamp}} | {{i2t_r1: no queue, no clamp}} | {{swaps: no queue, no clamp}} |
# | USER: queue, momentum 0.99 | {{t2i_r1: USER (queue), no clamp}} | {{i2t_r1: USER (queue), no clamp}} | {{swaps: USER (queue), no clamp}} |
# | momentum 0, floor 0 | {{t2i_r1: momentum 0}} | {{i2t_r1: momentum 0}} | {{swaps: momentum 0}} |
# | momentum 0.999, floor 0 | {{t2i_r1: momentum 0.999}} | {{i2t_r1: momentum 0.999}} | {{swaps: momentum 0.999}} |
#
# ## Three questions
#
# <details><summary>Somebody doubles the batch, trains for the same number of epochs, and finds a worse model. What do you ask first?</summary>
#
# How many steps were there? At equal epochs a batch twice as large takes half the steps. To learn what negatives are worth, keep steps and pairs and change the negatives alone, as in section 1.
# </details>
# <details><summary>You have a queue of 65,536 keys, batches of 256, and 2,000 steps on 20,000 captions. What is wrong, whatever the momentum?</summary>
#
# An eighth of the run goes by before the queue is full. And every caption comes back before it leaves the queue. So each query finds *all* captions of its own picture there as negatives, its own caption included, unless ids mask them.
# </details>
# <details><summary>Why is the training loss no sign that a run with a queue goes well?</summary>
#
# Because old keys can be told from new ones without looking at any picture. The loss of the collapsed runs fell in just this way. Watch retrieval on validation data.
# </details>
#
# **Next.** Can we have both, the speed of a dot product *and* the recall of alignment? Lesson 05 takes both kinds of score from one network, and searches in [two stages](../docs/GLOSSARY.md#two-stages). Appendix 04a is for those who want to know how such a training begins, what USER does with regions, and which parts of it did not matter here.
#
# ## Further reading
#
# - Y. Zhang, Z. Ji, D. Wang, Y. Pang, X. Li. *USER: Unified semantic enhancement with momentum contrast for image-text retrieval.* IEEE Transactions on Image Processing 33:595-609, 2024. arXiv 2301.06844.
# - K. He, H. Fan, Y. Wu, S. Xie, R. Girshick. *Momentum contrast for unsupervised visual representation learning.* CVPR 2020. MoCo.
# - A. Radford et al. *Learning transferable visual models from natural language supervision.* ICML 2021. CLIP: no queue, and batches of 32,768.

# %%
lesson.finish()
