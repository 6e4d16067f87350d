# %% [markdown] run_minutes=4
# # 05a · Appendix: inside TGDT
#
# Lesson 05 took TGDT as it is: branches first, then a top; a barrier between them; InfoNCE with an intra-modal part; a weight of 1 for the local score. What is each of these worth?
#
# **At the end you can**
#
# - measure whether pictures and captions agree on what is alike, and see why one number is not enough;
# - name what one vector misses;
# - say what each part of TGDT is worth on the scenes;
# - choose the weight of a score on validation data.
#
# **Time** about {{minutes}} minutes with both exercises. **You need** lesson 05.

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
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch

from itr_lib import evaluation, figures, inference, objectives, search, similarity
from itr_lib.checks import check, library
from itr_lib.lessons import leaderboard, open_lesson, recipes, timing

# %%
lesson = open_lesson(
    "05a_inside_tgdt", profile=profile, device=device, seed=seed, data=data, root=root
)
splits, tokenizer = lesson.load()
test = splits.test

# %% [markdown]
# ## 1. Two tops on the same branches
#
# To have something to take apart, train a small TGDT on half of the pictures: branches, and two tops on copies of them. One top learns by InfoNCE alone (*inter alone*), the other with the intra-modal part as well (*inter + intra*). Both begin with the same weights and see the same batches.

# %%
half = splits.train.take(np.arange(len(splits.train) // 2))
branches, on_top = recipes.tgdt_in_turn(profile, data, seed)
model = branches.build(splits.train, tokenizer).to(lesson.device)
lesson.train(model.local, branches.objective, branches.training, data=half, label="branches")

short = replace(on_top.training, epochs=min(2, on_top.training.epochs))
tops = {}
for name, weight in (("inter alone", 0.0), ("inter + intra", 1.0)):
    objective = replace(on_top.objective, intra_weight=weight)
    tops[name] = deepcopy(model)
    with tops[name].global_alone():
        lesson.train(tops[name], objective, short, data=half, label=name)
model = tops["inter + intra"]

# %% [markdown]
# ## 2. Do pictures and captions agree on what is alike?
#
# Take one caption a picture. $V$ holds the cosines of pictures with pictures, $T$ those of captions with captions. Two numbers say how far the two agree:
#
# - the **gap** is the mean over $j$ of $\max_i \lvert T_{ij} - V_{ij} \rvert$. The intra-modal part limits it in a batch.
# - the **correlation** of $V_{ij}$ and $T_{ij}$ over all pairs $i < j$ (Pearson's $r$).

# %% [markdown] exercise="structure-agreement" difficulty=3 minutes=9 points=3
# ### Your turn: gap and correlation
#
# Write `agreement(V, T)`. It takes two matrices $(B, B)$ of cosines and returns a tensor $(2,)$: gap and correlation. Where all $V_{ij}$ with $i < j$ are equal, or all $T_{ij}$, return the correlation 0.
#
# For example, let $V_{01}, V_{02}, V_{12}$ be 0.8, 0, 0.6, and those of $T$ 0.6, -0.6, 0.28, as in lesson 05, section 4. There the gap is $(0.6 + 0.32 + 0.6) / 3$.
#
# <details><summary>Help 1: the gap</summary>
#
# `(T - V).abs()` holds all differences. Take the largest of each column, and then the mean.
# </details>
# <details><summary>Help 2: the correlation</summary>
#
# `torch.triu_indices(B, B, 1)` gives the rows and columns of all $i < j$. Subtract from each of the two lists its mean. What is left to compute is a cosine: of which two vectors? Mind a length of 0, which rounding may make a tiny number.
# </details>


# %% solution="structure-agreement"
def agreement(V, T):
    """Gap and correlation of two structures: (B, B), (B, B) -> (2,).

    For V [[1, .8, 0], [.8, 1, .6], [0, .6, 1]] and T [[1, .6, -.6], [.6, 1, .28], [-.6, .28, 1]]:
    [0.5067, 0.9999].
    """
    ### BEGIN SOLUTION
    gap = (T - V).abs().amax(dim=0).mean()
    i, j = torch.triu_indices(len(V), len(V), 1, device=V.device)
    v, t = V[i, j] - V[i, j].mean(), T[i, j] - T[i, j].mean()
    lengths = v.norm() * t.norm()
    r = (v @ t) / lengths if lengths > 1e-9 else torch.zeros_like(gap)
    return torch.stack([gap, r])
    ### END SOLUTION


# %% check="structure-agreement"
agreement = check("structure-agreement", agreement)

# %% [markdown]
# In the example the gap is large and the correlation nearly 1: the two sides differ in every number, and rank the pairs alike. In the library: `structure_agreement` in `itr_lib/evaluation/probes.py`.
#
# Now measure the two tops on the test split.

# %%
first = np.unique(test.image_of_caption, return_index=True)[1]  # one caption a picture
one_each = replace(
    test,
    captions=tuple(test.captions[c] for c in first),
    image_of_caption=np.arange(len(test)),
    truth=None,
)
structures, notes = {}, {}
for name, some in tops.items():
    sides = inference.encode(some, tokenizer, one_each, device=lesson.device)
    structures[name] = tuple(similarity.cosine_scores(s.whole, s.whole).cpu() for s in sides)
    gap, r = agreement(*structures[name]).tolist()
    notes[name] = f"gap {gap:.2f}, correlation {r:.2f}"
    lesson.record(**{f"gap_{name.replace(' ', '_').replace('+', 'and')}": gap})

# %% tags=["key-figure"]
few = {name: [matrix[:24, :24] for matrix in both] for name, both in structures.items()}
figure = figures.structure_maps(few, "24 test pairs: what each side calls alike")
lesson.show(
    figure,
    alt=(
        "Three heat maps for each of two models: cosines among 24 pictures, among their "
        "captions in the same order, and the absolute differences of the two."
    ),
)

# %%
figure = figures.structure_scatter(
    structures, notes, "Are two captions as alike as their pictures?"
)
lesson.show(figure)

# %% [markdown]
# Does retrieval gain from it? In the recorded runs, trained on all pictures:

# %%
lesson.compare(
    {"inter alone": "05_tgdt_cmc/without intra", "inter + intra": "05_tgdt_cmc/TGDT"},
    metrics=("structure_gap", "structure_correlation", "global_t2i_r1", "t2i_r1"),
    title="With and without the intra-modal part",
    bars=False,
)

# %% [markdown]
# The intra-modal part does what it should: the gap falls from {{mean structure_gap: without intra}} to {{mean structure_gap: TGDT}}. The correlation hardly rises. Seed by seed, the vector finds {{seeds global_t2i_r1: without intra}} % without it and {{seeds global_t2i_r1: TGDT}} % with it: a small gain, in every seed. In both readings together hardly any of it is left.
#
# **What does CMC say of a model that has collapsed**, with one vector for everything? Take CMC as the paper has it, with the hinge. Before you run the cell: which of its two parts notices?

# %% tags=["nbval-check-output"]
generator = torch.Generator().manual_seed(0)
random_sides = [torch.randn(8, 8, generator=generator) for _ in range(2)]
alike = [torch.ones(8, 8) for _ in range(2)]
for name, (some_images, some_captions) in (("random", random_sides), ("all alike", alike)):
    total = objectives.cmc_loss(some_images, some_captions)
    own = (similarity.cosine_scores(side, side) for side in (some_images, some_captions))
    intra = objectives.consistency_loss(*own)
    print(f"{name:9s} inter {(total - intra).item():.2f}   intra {intra.item():.2f}")

# %% [markdown]
# Neither. The hinge costs $2 \cdot 0.2$ for each of 8 pairs, *less* than for random vectors, where the hardest of several negatives scores above the positive. And where everything is alike, V and T agree perfectly. The intra-modal part is smallest in a collapse, so it cannot prevent one. That is why a small gap alone says nothing good.

# %%
lesson.clock()

# %% [markdown]
# ## 3. What does the vector miss?
#
# For every caption take the picture that comes first. Where it is not the right one, what is wrong with it?
#
# In the lists below, *all parts are there, not as said* means that the picture has every shape, colour and texture of the caption, in another arrangement or number. *A part is missing* means that it lacks one of them.


# %%
@torch.no_grad()
def levels_of(split):
    """Global and local scores of a split, (images, captions), on the CPU."""
    sides = inference.encode(model, tokenizer, split, device=lesson.device)
    return [s(*sides).float().cpu() for s in (model.global_scores, model.local_scores)]


whole, local = levels_of(test)
owner = test.image_of_caption
winners = {
    "vector": whole.argmax(dim=0).numpy(),
    "words and regions": local.argmax(dim=0).numpy(),
}

# %%
if test.truth is not None:
    for name, winner in winners.items():
        print(name)
        for kind, share in evaluation.kinds_of_miss(test, winner).items():
            print(f"  {share:5.1f} %  {kind}")

# %% [markdown]
# *All parts are there, not as said* is the miss of a bag of words, and both readings make it. What sets them apart is the cruder miss: the vector more often puts a picture first in which a part is missing. Here are two captions that the local reading gets right and the vector does not.

# %%
if test.open_picture is not None:
    confused = (winners["vector"] != owner) & (winners["words and regions"] == owner)
    near = np.flatnonzero(confused)[
        np.argsort(evaluation.image_ranks(whole, owner)[confused], kind="stable")
    ]
    for name, scores in (("vector", whole), ("words and regions", local)):
        if len(near):
            figure = figures.image_gallery(test, scores, near[:2].tolist(), f"By {name}")
            lesson.show(figure)

# %%
lesson.clock()

# %% [markdown]
# ## 4. What is each part worth?
#
# Leave out one part at a time. These are recorded runs, with encoders of one size:
#
# | name | what |
# | --- | --- |
# | TGDT | three epochs for the branches, then four for the top; InfoNCE and the intra-modal part |
# | longer branches | as TGDT, but seven epochs for the branches |
# | without intra | as TGDT, without the intra-modal part |
# | hinge | as TGDT, but the top learns by the paper's hinge in place of InfoNCE |
# | at once | branches and top in the same three epochs, with the barrier |
# | joint | as *at once*, without the barrier |
# | global only | as *joint*, without the local loss |
# | TERAN, VSE | one reading each, seven epochs |

# %%
variants = ("TGDT", "longer branches", "without intra", "hinge", "at once", "joint")
everyone = (*variants, "global only", "TERAN", "VSE")
recorded = {name: lesson.runs(f"05_tgdt_cmc/{name}") for name in everyone}
if all(recorded.values()):
    one_reading = {"global only": ["global_"], "TERAN": ["local_"], "VSE": ["global_"]}
    title = "What each training finds, by each reading"
    lesson.show(figures.reading_bars(recorded, one_reading, title))

# %%
readings = {name: (f"05_tgdt_cmc/{name}", "global") for name in (*variants, "global only")}
lesson.compare(
    readings, metrics=("t2i_r1", "i2t_r1", "swaps"), title="The vector alone", bars=False
)
together = {name: f"05_tgdt_cmc/{name}" for name in (*variants, "TERAN", "VSE")}
lesson.compare(
    together, metrics=("t2i_r1", "i2t_r1", "swaps"), title="Both readings", bars=False
)

# %% [markdown]
# Text to image R@1, one number a seed:
#
# - **One reading or two.** TGDT's words and regions find {{seeds local_t2i_r1: TGDT}} %, both its readings {{seeds t2i_r1: TGDT}}. TERAN spends all its epochs on words and regions, and finds {{seeds t2i_r1: TERAN}}. Two readings out of one budget have their price. Longer branches make up for it: {{seeds t2i_r1: longer branches}}.
# - **The barrier.** Trained at once, words and regions find {{seeds local_t2i_r1: at once}} with the barrier and {{seeds local_t2i_r1: joint}} without. The vector finds {{seeds global_t2i_r1: at once}} with it and {{seeds global_t2i_r1: joint}} without. So the barrier saves the local reading much, and costs the vector little.
# - **In turn or at once.** At once the vector finds {{seeds global_t2i_r1: at once}}, in turn {{seeds global_t2i_r1: TGDT}}. In turn the top has one epoch more, twice the learning rate, and branches that do not change under it.
# - **The hinge.** With it the vector finds {{seeds global_t2i_r1: hinge}}, and has a gap of only {{structure_gap: hinge}}. Again, a small gap says nothing good.
# - **The local loss.** Without it the vector of the same network finds {{seeds global_t2i_r1: global only}}. Without guidance, a first token hardly learns to hold a whole picture. (VSE, which pools all its tokens, needs none.)
# - **Who has which colour.** On swapped twins the vector of TGDT is right in {{seeds global_swaps: TGDT}} %, at once in {{seeds global_swaps: at once}}, joint in {{seeds global_swaps: joint}}. It is not enough that the tokens know: the top must have learnt to read them.

# %%
lesson.clock()

# %% [markdown]
# ## 5. How much should each reading count?
#
# The score is global + $w$ · local, with $w = 1$ so far. $w = 0$ would be the vector alone, and a very large $w$ words and regions alone. Which $w$ finds most? Choose on *validation* data.

# %% [markdown] exercise="local-weight" difficulty=2 minutes=8 points=3
# ### Your turn: the weight of the local score
#
# Write `choose_weight(weights, global_scores, local_scores, truth)`. It takes a list of weights (in any order), two matrices $(Q, N)$ with a row a query, and the column of each query's match, `truth` $(Q,)$. It returns the weight with the highest R@1.
#
# - A query counts as found if its match scores *higher* than every other candidate. A tie is a miss.
# - Of equally good weights return the smallest.
#
# <details><summary>Help 1: the idea</summary>
#
# A loop over the weights. For each, mix the two matrices and count the queries whose match is ahead of all others.
# </details>
# <details><summary>Help 2: ties</summary>
#
# For each query count the candidates that score at least as much as the match, itself included. What must that number be for a hit? And in which order do you go through the weights, so that the smallest of equals wins?
# </details>


# %% solution="local-weight"
def choose_weight(weights, global_scores, local_scores, truth):
    """The weight with the highest R@1, the smallest of equals: list, (Q, N), (Q, N), (Q,) -> float.

    For weights [0, 1, 4], global [[.9, .5], [.7, .6]], local [[.2, .1], [0, .3]] and truth [0, 1]: 1.
    """
    ### BEGIN SOLUTION
    best, chosen = -1, None
    for weight in sorted(weights):
        scores = global_scores + weight * local_scores
        own = scores.gather(1, truth[:, None])
        found = int(((scores >= own).sum(dim=1) == 1).sum())
        if found > best:
            best, chosen = found, weight
    return chosen
    ### END SOLUTION


# %% check="local-weight"
choose_weight = check("local-weight", choose_weight)

# %%
weights = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
val_whole, val_local = (level.T for level in levels_of(splits.val))
val_truth = torch.as_tensor(splits.val.image_of_caption)
chosen = choose_weight(weights, val_whole, val_local, val_truth)


def r1(scores, match):
    """Text to image R@1 in percent, ties against the model: (captions, images), (captions,)."""
    own = scores.gather(1, match[:, None])
    return 100 * float(((scores >= own).sum(dim=1) == 1).double().mean())


mixed = [r1(val_whole + w * val_local, val_truth) for w in weights]
alone = {"vector": r1(val_whole, val_truth), "words and regions": r1(val_local, val_truth)}
title = "Validation pictures: what a mixture finds, by the weight of the local score"
lesson.show(figures.weight_curve(weights, mixed, alone, title))

# %%
test_truth = torch.as_tensor(owner)
at_one, at_chosen = (r1((whole + w * local).T, test_truth) for w in (1.0, chosen))
lesson.say(
    f"Chosen on validation: **w = {chosen:g}**. On the test split it finds {at_chosen:.1f} %; "
    f"w = 1 finds {at_one:.1f} %."
)

# %% [markdown]
# Hold the curve against the dashed line of words and regions alone. Below the line, the vector drags the mixture down; above it, the vector helps. Far to the right the vector hardly counts, and the curve comes down to the line. The vector of this appendix was trained briefly and is weak, so it should count little. A weight belongs to a model: choose it on that model's validation data.

# %%
lesson.clock()

# %% [markdown]
# ## 6. A gallery of 25,000
#
# What does a query cost in a large gallery? Take the library's `TwoStageIndex`. First a test: with everything in the shortlist, it must give the model's own scores.

# %%
images, captions = inference.encode(model, tokenizer, test, device=lesson.device)
index = search.TwoStageIndex.for_model(model, "images")
index.add(test.image_ids, images)
some = torch.arange(min(200, len(test.captions)), device=lesson.device)
ranked = index.query(inference.rows_of(captions, some), shortlist=len(index), top=len(index))
exhaustive = (whole + local)[:, : len(some)].T.gather(1, ranked.rows)
print(f"{index.bytes_per_item / 1024:.1f} KiB a picture")
print(
    f"with everything in the shortlist, scores differ from the model's by at most {(ranked.scores - exhaustive).abs().max():.0e}"
)

# %% [markdown]
# The time of a query does not depend on what the pictures show. So make a large gallery of copies of the test pictures, with a little noise, and ask it one caption at a time.

# %%
noise = torch.Generator().manual_seed(seed)
large = search.TwoStageIndex.for_model(model, "images")
for turn in range(2 if profile == "smoke" else 25):
    shaken = [
        part.float().cpu() + 0.02 * torch.randn(part.shape, generator=noise)
        for part in (images.whole, images.vectors)
    ]
    ids = [f"{turn}/{name}" for name in test.image_ids]
    large.add(ids, type(images)(*map(similarity.l2_normalise, shaken), images.mask.cpu()))
queries = [inference.rows_of(captions, torch.tensor([c])) for c in range(20)]


def asked(shortlist, some):
    """Milliseconds of a query."""
    return timing.milliseconds(lambda q: large.query(q, shortlist=shortlist, top=10), some)


slow = asked(len(large), queries[:5])
for k in (10, 50, 100, 500):
    fast = asked(min(k, len(large)), queries)
    print(
        f"{len(large):,} items, K = {k:3d}: {fast:6.2f} ms; aligning all takes {slow / fast:.0f} times as long"
    )

# %% [markdown]
# The larger the gallery, the more time is saved, since the second stage costs the same. No memory is saved: any picture may come into a shortlist, so the tokens of all must be kept. And the first stage still grows with the gallery. Lesson 07 finds near vectors without looking at every one.

# %%
lesson.clock()

# %% [markdown]
# ## 7. The whole board, and what the papers report
#
# Here are all systems of the figure in lesson 05, section 7: what they find (the mean of three seeds, lowest to highest in brackets), and what they cost.

# %%
if board := leaderboard.load_board(data):
    lesson.say(leaderboard.quality_table(board).to_html())
    lesson.say(leaderboard.cost_table(board).to_html())
lesson.say(leaderboard.published_table().to_html())

# %% [markdown]
# The last table gives R@1, R@5 and R@10 as the papers report them, and "–" where no source at hand gives a figure. They come from other data, larger encoders and other detectors. So do not set these numbers beside ours, and compare them with each other only with care.
#
# ## What you have now
#
# | question | answer on the scenes |
# | --- | --- |
# | what is the intra-modal part worth? | it narrows the gap, and the vector finds a little more |
# | what does the vector miss? | parts that the caption names, more often than words and regions do |
# | what is the barrier for? | it protects words and regions |
# | why train in turn? | the top learns on branches that stand still |
# | which weight? | that model's own, chosen on validation |
# | what does a large gallery cost? | a longer first stage; the second costs the same |
#
# ## Further reading
#
# - C. Liu, Y. Zhang, H. Wang, W. Chen, F. Wang, Y. Huang, Y.-D. Shen, L. Wang. *Efficient token-guided image-text retrieval with consistent multimodal contrastive training.* IEEE Transactions on Image Processing 32:3622-3633, 2023. arXiv 2306.08789.
# - Yu. A. Malkov, D. A. Yashunin. *Efficient and robust approximate nearest neighbor search using hierarchical navigable small world graphs.* IEEE TPAMI 42(4):824-836, 2020.

# %%
lesson.finish()
