# %% [markdown] run_minutes=3
# # 04a · How training begins, and what did not matter
#
# An appendix to lesson 04, for those who want to know more. There USER was trained, and it worked. Here you see how such a training begins, why some runs never get going, what USER does with the regions of a picture, and which of its choices made little difference on our scenes.
#
# **At the end you can**
#
# - compute the best score for a model that cannot tell pairs apart, and read a *[plateau](../docs/GLOSSARY.md#plateau)*, a stretch where the loss stands still;
# - find out from the gradient why a loss does not move, instead of waiting;
# - add a vector of the whole picture to its regions;
# - report an *[ablation](../docs/GLOSSARY.md#ablation)*, a run with one thing changed, that shows no difference.
#
# **Time** about {{minutes}} minutes with both exercises. **You need** lesson 04. The loss that you wrote there is used here.

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
import math
import numpy as np
import torch
import torch.nn.functional as F
from itr_lib import data as itr_data, figures, guides
from itr_lib.checks import check, library
from itr_lib.lessons import open_lesson, recipes

# %%
lesson = open_lesson(
    "04a_how_training_begins", profile=profile, device=device, seed=seed, data=data, root=root
)
splits, tokenizer = lesson.load()
uto_loss = lesson.answer("unified-loss")
recipe = recipes.user(profile, data, seed)
recipe = replace(recipe, model=replace(recipe.model, queue_size=0))  # without queues
uto = {name: getattr(recipe.objective, name) for name in ("mu", "gamma", "floor")}


# %%
def objective(model, batch, epoch, floor=uto["floor"]):
    """UTO in the batch, by your own function of lesson 04."""
    images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)
    settings = uto | {"floor": floor}
    return uto_loss(model.scores(images, captions), same_image=batch.same_image, **settings)


# %% [markdown]
# ## 1. The best score for everything
#
# A new model gives every pair nearly the same score. Which score is best *before* it can tell pairs apart? Say all scores are $S$, above the floor, and every query has $n$ negatives. Then UTO is
#
# $$ L(S) = \tfrac{2}{\mu} \log \big( 1 + n \, e^{\mu (S - \gamma)} \big) - \log (1 + S) $$
#
# The factor $n$ can move into the exponent:
#
# $$ n \, e^{\mu (S - \gamma)} = e^{\mu \left( S - (\gamma - \frac{\ln n}{\mu}) \right)} $$
#
# So $n$ equal negatives act like a single one with a lower threshold, $\gamma - \ln(n) / \mu$.

# %% [markdown] exercise="best-constant" difficulty=2 minutes=8 points=2
# ### Your turn: the best constant
#
# Write `best_constant(scores, negatives, mu, gamma)`. `scores`, $(G,)$, holds candidates for $S$, in any order; `negatives` is $n$. Return the candidate with the lowest $L(S)$, as a float. Nothing may overflow, also where $\mu (S - \gamma)$ is large for every candidate.
#
# <details><summary>Help 1: the idea</summary>
#
# Compute $L$ for all candidates at once. Then take the candidate at the place of the lowest.
# </details>
# <details><summary>Help 2: without overflow</summary>
#
# $\log(1 + e^x)$ is called *softplus*: `F.softplus(x, threshold=50)`, which returns $x$ itself above 50. To bring $n$ into the exponent, use $n = e^{\ln n}$.
# </details>


# %% solution="best-constant"
def best_constant(scores, negatives, mu, gamma):
    """The candidate at which UTO is lowest when all pairs have it: (G,), int, float, float -> float.

    Of 0, 0.1, 0.2, ... 1, with 7 negatives, mu 30 and gamma 0.5 it is 0.4.
    """
    ### BEGIN SOLUTION
    exponents = math.log(negatives) + mu * (scores - gamma)
    loss = 2 / mu * F.softplus(exponents, threshold=50) - scores.log1p()
    return float(scores[loss.argmin()])
    ### END SOLUTION


# %% check="best-constant"
best_constant = check("best-constant", best_constant)

# %%
grid = torch.linspace(0, 0.8, 801)
best = {n: best_constant(grid, n, uto["mu"], uto["gamma"]) for n in (7, 31, 2048)}
rows = [
    f"| {n:,} | {S:.3f} | {uto['gamma'] - math.log(n) / uto['mu']:.3f} |"
    for n, S in best.items()
]
lesson.say(
    "| negatives | best constant | γ - ln(n) / μ |\n| --- | --- | --- |\n" + "\n".join(rows)
)
lesson.record(best_constant_7=best[7])

# %% [markdown]
# The more negatives, the lower the best constant. It lies a little below the lowered threshold. Does a real run go there? Watch one: an epoch in batches of 32, so with 31 negatives a query, and the loss and mean score of every step.

# %%
followed = recipe.build(splits.train, tokenizer).to(lesson.device)
losses, levels = [], []


def watched(model, batch, epoch):
    images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)
    scores = images @ captions.T
    losses.append(uto_loss(scores, same_image=batch.same_image, **uto).detach())
    levels.append(scores.mean().detach())
    return uto_loss(scores, same_image=batch.same_image, **uto)


history = lesson.train(
    followed, watched, replace(recipe.training, batch_size=32), label="batches of 32"
)

# %% tags=["key-figure"]
exponent = math.log(31) + uto["mu"] * (best[31] - uto["gamma"])
lowest = 2 / uto["mu"] * math.log1p(math.exp(exponent)) - math.log1p(best[31])
curves = {
    "training loss": (torch.stack(losses).cpu(), lowest),
    "mean score": (torch.stack(levels).cpu(), best[31]),
}
title = "Loss and mean score of every step, beside those of the best constant"
lesson.show(figures.plateau(curves, title))

# %% [markdown]
# At the best constant the loss nearly stands still: this is the **plateau**. The run leaves it when its scores begin to depend on the pictures. How long that takes is counted in steps. In one epoch, batches of 128 take a sixteenth of the steps that batches of 8 take. After it their R@1 from text to image is {{t2i_r1: batch 128}}: they have hardly begun.
#
# It depends on $\mu$ as well. With the paper's $\mu = 90$ the three seeds end one epoch at {{seeds t2i_r1: mu = 90}}, with $\mu = 30$ at {{seeds t2i_r1: no queue}}: two of them are higher. A likely reason: scores with a spread of $\sigma$ around one mean cost about $\mu \sigma^2 / 2$ more than scores that are all alike. A model must spread its scores before it can gain by it, and at $\mu = 90$ that costs three times as much. The paper can afford it: it starts from a pretrained BERT and trains for 20 epochs, where we start from nothing and train for one.
#
# ## 2. A start that never comes
#
# And seed 2? With $\mu = 30$ it found nothing. Look at its training loss, beside those of other recorded runs with the paper's floor of 0:

# %%
told = ["| | seed 0 | seed 1 | seed 2 |", "| --- | --- | --- | --- |"]
for name in ("no queue", "batch 16", "batch 32", "USER (queue)"):
    runs = lesson.runs(f"04_momentum_queues/{name}")
    cells = [f"R@1 {run['t2i_r1']:.1f}, loss {run['loss']:.3f}" for run in runs]
    told.append(f"| {name} | {' | '.join(cells)} |")
lesson.say("\n".join(told))

# %% [markdown]
# Where a run ends at chance, its loss is 0.000. Such a run is not stuck on the plateau. It never reached it.
#
# The formula shows why. With a floor of 0, $\log(1 + \max(S_{ii}, 0))$ is flat wherever $S_{ii} \le 0$. Negatives below 0 are far below $\gamma$, so they cost next to nothing either. **If all scores of a new model are negative, nothing ever pulls them up.** Can that happen? A new model gives all pictures nearly one direction, and all captions nearly another. The angle between the two is a matter of luck:

# %%
some, starts = splits.train.take(np.arange(64)), {}
tokens = itr_data.tokenise(tokenizer, some.captions)
first = np.unique(some.image_of_caption, return_index=True)[1]
batch = itr_data.pair_batch(some, tokens, first, lesson.device)
for s in range(10):
    new = recipes.user(profile, data, s).build(splits.train, tokenizer).to(lesson.device)
    # No dropout. But a GRU on a GPU has gradients in training mode alone.
    for part in new.modules():
        part.training = isinstance(part, torch.nn.GRU)
    own = (new.encode_images(batch.images) * new.encode_captions(batch.captions)).sum(dim=1)
    pull = {}
    for floor in (0.0, uto["floor"]):
        new.zero_grad()
        objective(new, batch, 0, floor).backward()
        grads = [p.grad.norm() for p in new.parameters() if p.grad is not None]
        pull[floor] = float(torch.stack(grads).norm())
    starts[s] = (own.mean().item(), 100 * (own > 0).float().mean().item(), *pull.values())
rows = [
    f"| {s} | {a:.2f} | {b:.0f} % | {c:.3f} | {d:.3f} |" for s, (a, b, c, d) in starts.items()
]
head = (
    "| seed | mean score of a pair | pairs above 0 | gradient, floor 0 | gradient, floor -0.9 |"
)
lesson.say(head + "\n| --- | --- | --- | --- | --- |\n" + "\n".join(rows))

# %% [markdown]
# Where some of the pairs are above 0, they pull the rest along. Where none is, the gradient is as good as 0, and all depends on the noise of the first batches. (The gap between the two directions is known as the *[modality gap](../docs/GLOSSARY.md#modality-gap)*; W. Liang et al., NeurIPS 2022.)
#
# The remedy is small: a floor of $-0.9$. It keeps the logarithm finite, which would break at a cosine of $-1$, and a pair below 0 has a gradient too. For every pair above 0 it is exactly the paper's loss. All six recorded runs with it got going:

# %%
lesson.compare(
    {
        "no queue, floor 0": "04_momentum_queues/no queue",
        "no queue, floor -0.9": "04_momentum_queues/no queue, no clamp",
        "queue, floor 0": "04_momentum_queues/USER (queue)",
        "queue, floor -0.9": "04_momentum_queues/USER (queue), no clamp",
    },
    metrics=("i2t_r1", "t2i_r1"),
    bars=False,
)

# %% [markdown]
# A rule for any training: **when a loss does not move in the first steps, look at the gradient before you wait.**
#
# ## 3. The picture as a guide
#
# How can a region know what its picture is about? A detector looks at each box alone, but whether a box matters depends on the whole picture. The other half of USER is about this. **[SGE](../docs/GLOSSARY.md#self-guided-enhancement)**, self-guided enhancement, makes one vector $g$ for the whole picture: a weighted sum of its regions $x_r$, with learnt weights $a_r$, brought to length 1. Then it gives each region its share $b_r$ of $g$, with a sharpness $\lambda$:
#
# $$ s = \operatorname{softmax}_r (\lambda \, x_r \cdot g) \qquad b = \frac{s}{\lVert s \rVert} \qquad x_r \leftarrow x_r + b_r \, g $$
#
# **CGE**, CLIP-guided enhancement, does the same with a $g$ from elsewhere: the picture's vector from a CLIP (lesson 01) that is not trained any further.

# %%
title = "One vector for the picture, from its regions or from a CLIP, goes back to each region"
alt = (
    "Four regions are weighed by attention into one vector g; a frozen CLIP may give g instead."
    " Then each region x_r becomes x_r plus b_r times g."
)
lesson.show(figures.guide_diagram(title), alt)

# %% tags=["nbval-check-output"]
x, g = torch.eye(2), torch.tensor([1.0, 0.0])  # two regions, and the picture's vector
s = (x @ g).softmax(dim=0)
b = s / s.norm()
print("shares", [round(v, 3) for v in s.tolist()], "  b", [round(v, 3) for v in b.tolist()])
print("enhanced", [[round(v, 3) for v in row] for row in (x + b[:, None] * g).tolist()])

# %% [markdown] exercise="enhance" difficulty=3 minutes=9 points=2
# ### Your turn: give it back
#
# Write `enhanced(regions, mask, guide, sharpness)`, which returns $x_r + b_r g$ for $N$ pictures, $(N, R, F)$. `regions` is $(N, R, F)$; `mask`, $(N, R)$, is True where a region is real; `guide`, $(N, F)$, holds the $g$ of each picture; `sharpness` is $\lambda$. Padded regions take no part in the softmax, and come back unchanged. Gradients flow to `regions` and `guide`.
#
# <details><summary>Help 1: the idea</summary>
#
# Three steps: the products $\lambda \, x_r \cdot g$, $(N, R)$; the shares, brought to length 1 over the regions of each picture; the sum.
# </details>
# <details><summary>Help 2: padding</summary>
#
# Which number must stand in a padded place before a softmax, so that exactly 0 comes out? (Some products are below $-100$.)
# </details>
# <details><summary>Help 3: the axes</summary>
#
# `b[..., None]` is $(N, R, 1)$ and `guide[:, None]` is $(N, 1, F)$: their product is $(N, R, F)$.
# </details>


# %% solution="enhance"
def enhanced(regions, mask, guide, sharpness):
    """x_r + b_r g: (N, R, F), (N, R) bool, (N, F), float -> (N, R, F).

    For the x and g above, both regions real and sharpness 1: [[[1.939, 0], [.345, 1]]].
    """
    ### BEGIN SOLUTION
    products = sharpness * torch.einsum("nrf,nf->nr", regions, guide)
    s = products.masked_fill(~mask, -torch.inf).softmax(dim=1)
    b = F.normalize(s, dim=1)
    return regions + b[..., None] * guide[:, None]
    ### END SOLUTION


# %% check="enhance"
enhanced = check("enhance", enhanced)

# %% [markdown]
# How much does this change? Compare the length of a region with the length of what it receives. The model of section 1 and your function tell, on test pictures:

# %%
few = itr_data.image_batch(splits.test, np.arange(min(100, len(splits.test))), lesson.device)
with torch.no_grad():
    g = followed.image_encoder.guide(few)
    gift = enhanced(few.features, few.mask, g, 1.0) - few.features
long, given = (v[few.mask].norm(dim=1).mean() for v in (few.features, gift))
lesson.say(
    f"A region has a length of **{long:.1f}**. What it receives has a length of **{given:.2f}**."
)

# %% [markdown]
# What a region receives is small, so do not expect much. The recorded runs below have no queues, and the paper's floor. If you set `clip`, a run of your own stands beside them.

# %%
clip = ""  # "small", a CLIP's name or folder, or an .npz file of embeddings: trains with CGE
rows = {"no guide": "no guide", "SGE": "no queue", "CGE, a small CLIP": "CGE"}
rows = {label: f"04_momentum_queues/{name}" for label, name in rows.items()}
if clip:
    lesson.splits = guides.guided(splits, clip, profile=profile, device=lesson.device)
    guided = replace(recipe, model=replace(recipe.model, guide="clip"))
    model = guided.build(lesson.splits.train, tokenizer).to(lesson.device)
    lesson.train(model, objective, guided.training, label="CGE")
    rows["CGE, this run"] = lesson.test(model)[1]
lesson.compare(rows, metrics=("i2t_r1", "t2i_r1", "t2i_r10"), bars=False)

# %% [markdown]
# The seeds differ by more than the guides. (SGE's lowest is the run that never started; with a floor of $-0.9$ SGE finds {{t2i_r1: no queue, no clamp}} from text to image.) **On our scenes neither helps.** The CLIP here is a small one of our own. A real one knows much that a detector does not, and would bring that knowledge along.
#
# ### What SGE looks at
#
# The attention $a_r$ makes the picture's vector. Does it find the objects?

# %%
if splits.test.truth is not None and splits.test.open_picture is not None:
    rows = np.arange(len(few.features))
    with torch.no_grad():
        a = followed.image_encoder.guide.weights(few).cpu().numpy()
    on_object = (splits.test.truth.region_object[rows] >= 0)[:, : a.shape[1]]
    share = 100 * float((a * on_object).sum(axis=1).mean())
    even = 100 * float((on_object.sum(axis=1) / few.mask.sum(dim=1).cpu().numpy()).mean())
    real = splits.test.region_mask[0]
    weights = {"evenly": real / real.sum(), "SGE": np.pad(a[0], (0, len(real) - a.shape[1]))}
    title = "Which boxes does SGE weigh most?"
    lesson.show(figures.attention_boxes(splits.test, 0, "the picture", weights, title))
    lesson.say(
        f"**{share:.0f} %** of the weight is on boxes of objects; evenly it would be {even:.0f} %."
    )

# %% [markdown]
# Nobody asked it to find objects. It learns what helps the loss, through an addition that is small beside the regions.
#
# ## 4. What did not matter
#
# A paper makes many choices. Here are two that made little difference on our scenes. *Random keys*: as in USER's released code, the queues start full of random vectors. *False negatives in*: captions of the query's own picture stay in as negatives.

# %%
pair = {
    "USER": "04_momentum_queues/USER (queue)",
    "random keys": "04_momentum_queues/random keys",
    "false negatives in": "04_momentum_queues/false negatives in",
}
runs = {label: lesson.runs(name) for label, name in pair.items()}
if all(runs.values()):
    lesson.show(figures.seed_lines(runs, title="Two choices, seed by seed"))

# %% [markdown]
# Seed by seed, USER's R@1 from text to image is {{seeds t2i_r1: USER (queue)}}. With random keys it is {{seeds t2i_r1: random keys}}: only seed 2 gains much, and one seed is no rule. Random keys are gone after $K / B$ steps, when every place holds a key of the model's own, and most of that time the model is probably on its plateau.
#
# With false negatives in it is {{seeds t2i_r1: false negatives in}}: lower in every seed, but by little beside what separates the seeds. In lesson 04 you counted how many queries meet one. With fewer pictures, or a longer queue, it is another matter.
#
# ## 5. Which loss?
#
# Does it matter which loss we take? Here are UTO, the hinge of lesson 01 on all negatives, and InfoNCE: the same encoders, without queues, in batches of 8, for the same number of steps.

# %% tags=["key-figure"]
rows = {
    "UTO": "04_momentum_queues/no queue, no clamp",
    "hinge": "04_momentum_queues/triplet",
    "InfoNCE": "04_momentum_queues/InfoNCE",
}
title = "Three losses: the same encoders, batches and steps"
lesson.compare(rows, metrics=("i2t_r1", "t2i_r1", "t2i_r10"), title=title)
lesson.clock()

# %% [markdown]
# Compare UTO and InfoNCE from text to image, seed by seed. R@1 is {{seeds t2i_r1: no queue, no clamp}} with UTO and {{seeds t2i_r1: InfoNCE}} with InfoNCE: UTO is ahead in each. R@10 is {{seeds t2i_r10: no queue, no clamp}} and {{seeds t2i_r10: InfoNCE}}: InfoNCE is ahead in each. A loss that listens to the hardest few seems to gain at the first rank. This is one temperature, one margin, one batch size and one epoch: it does not show that either is better everywhere.
#
# ## What you have now
#
# | idea | in a line |
# | --- | --- |
# | best constant | one score for all pairs, near $\gamma - \ln(n) / \mu$: where training begins |
# | plateau | the loss stands still until pictures begin to differ; it is counted in steps |
# | dead start | all scores below the floor: next to no gradient |
# | SGE, CGE | the picture's vector goes back to its regions |
#
# <details><summary>A colleague's loss is exactly 0 from the first step. What do you look at?</summary>
#
# At the gradient, and at the scores: are they all where the loss is flat? Here they were all below the floor.
# </details>
# <details><summary>An ablation shows no difference. What do you write?</summary>
#
# What was changed, on what data, with how many seeds, and how large a difference these runs could have shown. "It makes no difference" and "we could not see one" are two different findings.
# </details>
#
# **Back to the course.** Lesson 05 asks for the speed of a dot product *and* the recall of alignment.
#
# ## Further reading
#
# - W. Liang, Y. Zhang, Y. Kwon, S. Yeung, J. Zou. *Mind the gap: Understanding the modality gap in multi-modal contrastive representation learning.* NeurIPS 2022.
# - J. Chen, H. Hu, H. Wu, Y. Jiang, C. Wang. *Learning the best pooling strategy for visual semantic embedding.* CVPR 2021. GPO, the pooling of both sides.

# %%
lesson.finish()
