# %% [markdown] run_minutes=6
# # 05 · Two readings of one network: TGDT, CMC, and a search in two stages
#
# Words and regions find far more than one vector does (lesson 02), and cost an alignment with *every* picture (lesson 04, section 8). TGDT (2023) reads one network twice: once as words and regions, once as one vector a side. The vector looks through everything and makes a shortlist; the alignment puts the shortlist in order.
#
# **At the end you can**
#
# - read one network at two levels, and say where gradients flow and where they do not;
# - compute the CMC loss by hand: the pairs, and the geometry inside each modality;
# - search in two stages, and choose the length of a shortlist from measurements;
# - rank a query whose match is not in the shortlist, and find the mistake in an evaluation that does not;
# - compare all methods of the course by what they find and what they cost.
#
# **Time** about {{minutes}} minutes with all 6 exercises, 45 if you read and do three. **You need** lessons 01 and 02; 03 and 04 help. On two CPU cores the notebook itself runs in five to seven minutes.

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
import copy
import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display

from itr_lib import figures

from itr_lib.checks import check
from itr_lib.lessons import open_lesson, recipes
from itr_lib.lessons.leaderboard import (
    cost_table,
    front,
    load_board,
    published_table,
    quality_table,
    query_costs,
)
from itr_lib.lessons.recorded import recorded, runs_of
from itr_lib.lessons.timing import best_time
from itr_lib.data.batches import pair_batch
from itr_lib.data import load_splits
from itr_lib.data import tokenise, train_tokenizer
from itr_lib.encoders.tokens import GlobalTokens
from itr_lib.evaluation import (
    caption_ranks,
    ceiling_scores,
    expected_recall,
    image_ranks,
    pair_accuracy,
    retrieval_metrics,
    structure_agreement,
    two_stage_metrics,
)
from itr_lib.figures import show
from itr_lib.objectives import cmc_loss, consistency_loss, info_nce, triplet_loss
from itr_lib.search import TwoStageIndex
from itr_lib.similarity import cosine_scores, l2_normalise
from itr_lib.inference import encode, rows_of
from itr_lib.training import train

lesson = open_lesson(
    "05_tgdt_cmc", profile=profile, device=device, seed=seed, data=data, root=root
)
splits = load_splits(data, root, profile=profile)
test = splits.test
print(splits.notes)
print(f"train {len(splits.train):,} images, val {len(splits.val):,}, test {len(test):,}")

# %% [markdown]
# As in lesson 04, what takes a training run for each of several seeds was run once and recorded. The main model is trained here.

# %%
record = recorded("05_tgdt_cmc", data) or {
    "command": f"nothing recorded for {data}",
    "runs": [],
}


def of(*names):
    """The recorded runs of these variants, if there are any: a dictionary of metrics a seed."""
    there = {run["variant"] for run in record["runs"]}
    return {name: runs_of(record, name) for name in names if name in there}


def by_seed(name, metric, digits=1):
    """The values of the seeds in their order, as text; empty where nothing was recorded."""
    values = [run[metric] for run in of(name).get(name, []) if metric in run]
    return ", ".join(f"{value:.{digits}f}" for value in values)


print(record["command"])

# %% [markdown]
# ## 1. Two readings of one network
#
# TERAN keeps a vector for each region and each word, and its score compares all of them. VSE keeps one vector a side, and its score is one dot product. Must we choose?
#
# TERAN already holds a token for the whole: position 0 of each branch, the whole-image token and `[CLS]`. It has attended to all the others, so it can stand for the whole, and it takes no part in the score. TGDT, the *token-guided dual transformer*, puts it to use:
#
# - the **local** reading is TERAN's: regions and words, MrSw (each word takes its best region, and the words are summed);
# - the **global** reading: two more transformer layers over all the tokens, which we call the *top*, and of what comes out the first token alone, at length 1. Two of them make a cosine.

# %%
figure = figures.tgdt_diagram(
    "One network, two scores: one from regions and words, one from a first token on each side"
)
show(
    figure,
    alt=(
        "Two branches, image and caption. Their tokens meet in the local score, MrSw. On top "
        "of each stands another transformer, whose first tokens meet in the global score. A "
        "barrier between tokens and transformer says that no gradient passes down."
    ),
)

# %%
tokenizer = train_tokenizer(splits.train.captions)
branches, on_top = recipes.tgdt_in_turn(profile, data, seed)
model = branches.build(splits.train, tokenizer).to(lesson.device).eval()
tokens = tokenise(tokenizer, splits.train.captions)
three = np.unique(splits.train.image_of_caption, return_index=True)[1][:3]
batch = pair_batch(splits.train, tokens, three, lesson.device)
with torch.no_grad():
    sequence, real = model.local.image_sequence(batch.images)
    whole, regions, mask = model.encode_images(batch.images)
print("tokens of three pictures", tuple(sequence.shape), " real:", real.sum(dim=1).tolist())
print("local reading           ", tuple(regions.shape), " real:", mask.sum(dim=1).tolist())
print("global reading          ", tuple(whole.shape))
print(
    f"global scores\n{model.global_scores(*map(model.encode_images, [batch.images] * 2)).detach().cpu().numpy().round(2)}"
)

# %% [markdown]
# (The last lines compare the three pictures with themselves, before any training.)
#
# One thing is left to decide. The global loss sends its gradient down through the layers on top. Does it go on, into the branches? Then both losses shape the tokens. Or does it end at the barrier? In PyTorch the barrier is one word: `tokens.detach()` holds the same numbers, and no gradient passes through it.

# %% [markdown] exercise="token-guidance" difficulty=2 minutes=5 points=2
# ### Your turn: the global vector
#
# Write `global_vectors(tokens, mask, on_top, detach)`: the tokens of a branch $(B, L, D)$, their mask $(B, L)$ (True = real) and a transformer to unit vectors $(B, D)$. `on_top` is called like torch's encoders: `on_top(tokens, src_key_padding_mask=...)`, where that mask is True at *padding*. With `detach=True` no gradient reaches `tokens`; `on_top` learns in both cases.
#
# <details><summary>Help 1: the idea</summary>
#
# Three lines: detach the tokens or not, call `on_top`, take the first token of each sequence and bring it to length 1.
# </details>
# <details><summary>Help 2: nearly there</summary>
#
# `tokens.detach() if detach else tokens`; `src_key_padding_mask=~mask`; `[:, 0]`; `torch.nn.functional.normalize(..., dim=-1)`.
# </details>


# %% solution="token-guidance"
def global_vectors(tokens, mask, on_top, detach):
    """The first token that on_top returns, at length 1: (B, L, D), (B, L) bool, module, bool -> (B, D).

    With an on_top that only doubles its tokens, [[[3, 4], [1, 0]]], all real, gives [[0.6, 0.8]].
    """
    ### BEGIN SOLUTION
    tokens = tokens.detach() if detach else tokens
    first = on_top(tokens, src_key_padding_mask=~mask)[:, 0]
    return torch.nn.functional.normalize(first, dim=-1)
    ### END SOLUTION


# %% check="token-guidance"
global_vectors = check("token-guidance", global_vectors)

# %% [markdown]
# In the library: `TGDT` in `itr_lib/models/tgdt.py`, whose encoders return `GlobalTokens`: `whole`, `vectors` and `mask`. There is one saving. Of the last layer only the first token is read, so `first_token` in `itr_lib/encoders/regions.py` computes that layer for this token alone, with all the others to look at. The same numbers for less work:

# %%
with torch.no_grad():
    stack = model.global_regions

    def all_tokens():
        return l2_normalise(stack(sequence, src_key_padding_mask=~real)[:, 0])

    print(f"largest difference {(all_tokens() - whole).abs().max():.1e}")

# %% [markdown]
# Where do gradients flow? Take one batch of an untrained model, and look at the length of the gradient that each loss sends into each part, with the barrier and without.


# %%
def gradient_lengths(detach, reading):
    """Length of the gradient in each part of an untrained model, from the loss of one reading."""
    untrained = replace(branches, model=replace(branches.model, detach=detach))
    untrained = untrained.build(splits.train, tokenizer).to(lesson.device)
    pairs = pair_batch(splits.train, tokens, one_caption, lesson.device)
    sides = untrained.encode_images(pairs.images), untrained.encode_captions(pairs.captions)
    if reading == "global":
        loss = info_nce(untrained.global_scores(*sides))
    else:
        loss = triplet_loss(untrained.local_scores(*sides), negatives="all") / len(one_caption)
    loss.backward()
    lengths = dict.fromkeys(("image branch", "caption branch", "top"), 0.0)
    for name, weights in untrained.named_parameters():
        part = (
            "caption branch" if ".text." in name or ".joint_words." in name else "image branch"
        )
        part = "top" if name.startswith("global_") else part
        lengths[part] += 0.0 if weights.grad is None else float(weights.grad.square().sum())
    return {part: round(total**0.5, 3) for part, total in lengths.items()}


one_caption = np.unique(splits.train.image_of_caption, return_index=True)[1][:64]
kinds = {"detached": True, "joint": False}
flows = {
    f"{reading} loss, {name}": gradient_lengths(detach, reading)
    for reading in ("local", "global")
    for name, detach in kinds.items()
}
display(pd.DataFrame(flows).T)

# %% [markdown]
# The local loss never reaches the top, and detached the global loss never reaches the branches. (Look at the zeros, not at the lengths: the two losses have different units.) So the local loss alone shapes the tokens, and the global reading makes of them what it can. That is how we read *token-guided*: tokens that have learnt, from words and regions, what is where, and a global vector that is made of them.
#
# Is that better than letting both losses shape the tokens? That is a question for measurement, and section 4 has the answer for our data. One consequence can be used at once: *if nothing flows back, the order is free.* The branches can be trained first, as a TERAN of their own, and the top afterwards.

# %%
lesson.clock(60)

# %% [markdown]
# ## 2. What should a global loss ask? CMC by hand
#
# A hinge or InfoNCE asks about **pairs**: picture $i$ and caption $i$ closer than picture $i$ and caption $j$. It says nothing about how close two *pictures* are. Let us look at three pairs.

# %% tags=["nbval-check-output"]
images3 = torch.tensor([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0]])
captions3 = torch.tensor([[2.0, 0.0], [3.0, 4.0], [-3.0, 4.0]])
S = cosine_scores(images3, captions3)  # picture i with caption j
V = cosine_scores(images3, images3)  # picture i with picture j
T = cosine_scores(captions3, captions3)  # caption i with caption j
for name, matrix in (("S", S), ("V", V), ("T", T)):
    rows = "   ".join(
        " ".join(f"{value:5.2f}" for value in row)
        for row in (matrix.round(decimals=2) + 0.0).tolist()
    )
    print(f"{name}   {rows}")

# %% [markdown]
# (Each line holds the three rows of a matrix.) **Inter-modal**, the hinge with the hardest negative and margin 0.2, as in lesson 01. Picture 1 has its caption at 1.00 and the hardest other one at 0.60: it costs nothing. Picture 2: $0.2 + 0.80 - 0.96 = 0.04$. Picture 3: $0.2 + 0.80 - 0.80 = 0.20$. Captions ask along the columns: 0, 0.04 and 0. Together 0.28.
#
# Pair 1 costs nothing in either direction. Is all well with it? Pictures 1 and 3 have nothing in common ($V_{13} = 0$), and their captions point *away* from each other ($T_{13} = -0.6$). The two modalities disagree on what is alike, and the hinge cannot see it.
#
# **Intra-modal**: of each pair $j$, take the partner $i$ on which V and T disagree most, and let a disagreement up to 0.3 cost nothing.
#
# $$ \sum_j \Big[ \max_i \lvert T_{ij} - V_{ij} \rvert - 0.3 \Big]_+ $$

# %% tags=["nbval-check-output"]
gap = (T - V).abs()
print("|T - V|", [[round(value, 2) for value in row] for row in gap.tolist()])
worst = gap.max(dim=0).values
print("worst of each pair", [round(value, 2) for value in worst.tolist()], end="   ")
print("beyond 0.3", [round(value, 2) for value in (worst - 0.3).relu().tolist()])

# %% [markdown] exercise="consistency" difficulty=2 minutes=5 points=2
# ### Your turn: the intra-modal part
#
# Write `consistency(V, T, margin)` for two $(B, B)$ matrices of cosines, to one number, as in the formula.
#
# <details><summary>Help 1: the idea</summary>
#
# Inside out: the absolute difference, the maximum over $i$ (rows, axis 0), less the margin, nothing below 0, the sum over $j$.
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# `.abs()`, `.amax(dim=0)`, `torch.relu`, `.sum()`. The margin is inside the bracket, so it is subtracted once for each $j$.
# </details>


# %% solution="consistency"
def consistency(V, T, margin):
    """What the two modalities disagree on beyond a margin: (B, B), (B, B), float -> scalar.

    For the V and T above with margin 0.3: 0.3 + 0.02 + 0.3 = 0.62.
    """
    ### BEGIN SOLUTION
    return torch.relu((T - V).abs().amax(dim=0) - margin).sum()
    ### END SOLUTION


# %% check="consistency"
consistency = check("consistency", consistency)

# %% [markdown]
# Inter plus intra is **CMC**, the *consistent multimodal contrastive* loss.

# %% [markdown] exercise="cmc" difficulty=3 minutes=7 points=3
# ### Your turn: CMC
#
# Write `cmc(images, captions, margin, intra_margin)`: embeddings $(B, D)$ of any length, row $i$ of one belongs to row $i$ of the other, to one number. The inter-modal part is the hinge with the hardest negative on cosines, in both directions, summed; the intra-modal part is `consistency`, with `intra_margin`. A single pair has no negatives, and costs nothing in the hinge.
#
# <details><summary>Help 1: the idea</summary>
#
# Bring both to length 1. Then three matrix products: $S$, $V$ and $T$.
# </details>
# <details><summary>Help 2: the hinge</summary>
#
# `S.masked_fill(torch.eye(len(S), dtype=torch.bool, device=S.device), -torch.inf)` leaves only negatives. Its `amax(dim=1)` is the hardest for each picture, `amax(dim=0)` for each caption; both are compared with `S.diagonal()`.
# </details>
# <details><summary>Help 3: nearly there</summary>
#
# `torch.relu(margin + hardest - S.diagonal()).sum()` once for each direction, plus `torch.relu((T - V).abs().amax(dim=0) - intra_margin).sum()`.
# </details>


# %% solution="cmc"
def cmc(images, captions, margin, intra_margin):
    """CMC of a batch: (B, D), (B, D), float, float -> scalar.

    For images3 and captions3 above with margins 0.2 and 0.3: 0.28 + 0.62 = 0.90.
    """
    ### BEGIN SOLUTION
    images = torch.nn.functional.normalize(images, dim=-1)
    captions = torch.nn.functional.normalize(captions, dim=-1)
    S, V, T = images @ captions.T, images @ images.T, captions @ captions.T
    diagonal = torch.eye(len(S), dtype=torch.bool, device=S.device)
    negatives = S.masked_fill(diagonal, -torch.inf)
    image_asks = torch.relu(margin + negatives.amax(dim=1) - S.diagonal()).sum()
    caption_asks = torch.relu(margin + negatives.amax(dim=0) - S.diagonal()).sum()
    intra = torch.relu((T - V).abs().amax(dim=0) - intra_margin).sum()
    return image_asks + caption_asks + intra
    ### END SOLUTION


# %% check="cmc"
cmc = check("cmc", cmc)

# %% [markdown]
# In the library: `consistency_loss` and `cmc_loss` in `itr_lib/objectives/losses.py`.
#
# **An aside: what does CMC say of a model that has collapsed?** (Lesson 01: one vector for everything.) Before you run the cell: which of its two parts notices?

# %% tags=["nbval-check-output"]
generator = torch.Generator().manual_seed(0)
by_lot = [torch.randn(8, 8, generator=generator) for _ in range(2)]
alike = [torch.ones(8, 8) for _ in range(2)]
for name, (some_images, some_captions) in (("random", by_lot), ("all alike", alike)):
    total = cmc_loss(some_images, some_captions)
    own = cosine_scores(some_images, some_images), cosine_scores(some_captions, some_captions)
    intra = consistency_loss(*own)
    print(f"{name:9s} inter {(total - intra).item():.2f}   intra {intra.item():.2f}")

# %% [markdown]
# The collapsed batch costs $2 \cdot 0.2$ for each of 8 pairs in the hinge, 3.2, *less* than random vectors, because the hardest of several random negatives scores above the positive. Its intra-modal part is 0: where everything is alike, V and T agree perfectly. So the intra-modal part cannot *prevent* a collapse. It is smallest there.
#
# In our recorded runs the hinge on the top finds about half of what InfoNCE finds there (section 4). So **the course uses InfoNCE for the pairs** (temperature 0.05, lesson 01), and adds the intra-modal part to that. The paper trains with the hinge, on other data; that we have not tried.

# %%
lesson.clock(46)

# %% [markdown]
# ## 3. Train it
#
# In turn: first the branches with TERAN's loss, then the top, with the branches' weights as they are (their dropout stays on). Inside `model.global_alone()` the branches take no gradient, and the model's score is the global one.

# %%
for name, recipe in (("branches", branches), ("top", on_top)):
    settings = vars(recipe.training) | vars(recipe.objective)
    wanted = ("epochs", "batch_size", "learning_rate", "margin", "temperature", "intra_weight")
    told = (f"{key} {settings[key]}" for key in wanted if key in settings)
    print(f"{name:9s}", ", ".join(told))
sizes = {
    "branches": sum(p.numel() for p in model.local.parameters()),
    "top": sum(p.numel() for p in model.parameters())
    - sum(p.numel() for p in model.local.parameters()),
}
print("weights:", ", ".join(f"{name} {size:,}" for name, size in sizes.items()))

# %%
history = train(
    model.local,
    branches.objective,
    tokenizer,
    splits.train,
    splits.val,
    branches.training,
    device=lesson.device,
)
fresh = copy.deepcopy(model)  # finished branches, untrained top: for later
with model.global_alone():
    top_history = train(
        model,
        on_top.objective,
        tokenizer,
        splits.train,
        splits.val,
        on_top.training,
        device=lesson.device,
    )
for name, epochs in (("branches", history.epochs), ("top", top_history.epochs)):
    print(
        f"{name:9s} {sum(epoch['seconds'] for epoch in epochs):4.0f} s, epoch by epoch", end=" "
    )
    print([f"{epoch['t2i_r1']:.1f}" for epoch in epochs], "(validation, text to image R@1)")

# %%
figure = figures.training_curves(
    {"branches (local)": history.epochs, "top (global)": top_history.epochs},
    "The branches first; the top learns on branches that no longer change",
)
show(
    figure,
    alt=(
        "Left: training losses of branches and top by epoch. Right: validation R@1 by epoch, "
        "of the local reading while the branches train, of the global one afterwards."
    ),
)

# %% [markdown]
# Now read the test split three ways: by the global score, by the local score, and by their sum, global + local. Everything is encoded once.


# %%
@torch.no_grad()
def read(some_model, some_data):
    """Encode a split once: its images, its captions, and the scores of each reading."""
    images, captions = encode(some_model, tokenizer, some_data, device=lesson.device)
    scores = {
        "global": some_model.global_scores(images, captions).float().cpu(),
        "local": some_model.local_scores(images, captions).float().cpu(),
    }
    scores["both"] = scores["global"] + some_model.local_weight * scores["local"]
    return images, captions, scores


images, captions, scores = read(model, test)
metrics = {name: retrieval_metrics(s, test.image_of_caption) for name, s in scores.items()}
references = {"chance": expected_recall(np.zeros(scores["both"].shape), test.image_of_caption)}
if test.truth is not None:
    from itr_lib.data.scenes import truth_matrix

    truth = truth_matrix(test.truth.scenes, test.truth.captions)
    references["ceiling"] = expected_recall(ceiling_scores(truth), test.image_of_caption)

# %% tags=["key-figure"]
rows = {f"{name}, this run": [found.as_dict()] for name, found in metrics.items()}
rows |= of("TERAN", "VSE") | {name: [values] for name, values in references.items()}
display(figures.metrics_table(rows, ["i2t_r1", "t2i_r1", "t2i_r10", "rsum"]))
lesson.record(
    global_t2i_r1=metrics["global"].t2i_r1,
    local_t2i_r1=metrics["local"].t2i_r1,
    t2i_r1=metrics["both"].t2i_r1,
    i2t_r1=metrics["both"].i2t_r1,
    rsum=metrics["both"].rsum,
)

# %% [markdown]
# (TERAN and VSE are recorded runs with encoders of the same size, of seven epochs each: words and regions alone, and one vector alone, trained by InfoNCE. Seven is what our network had: three for the branches and four for the top.)
#
# In this run the global reading finds 38.8 % text to image and 70.8 image to text, rather less and a little more than VSE, and the local one 62.4 and 89.5. The local reading is a TERAN of three epochs. A sum over words varies far more from picture to picture than one cosine, so in the sum of both the local score decides, and the global one helps a little (section 5 asks how much it should count).
#
# ### What does the global reading miss?
#
# Look at captions that the local reading gets right and the global one does not. First all of them. What is wrong with the picture that comes first?

# %%
owner = test.image_of_caption
first_place = {name: scores[name].argmax(dim=0).numpy() for name in ("global", "local")}


def parts(things):
    """All shapes, colours and textures of some objects, whoever has which."""
    kinds = ("shape", "colour", "texture")
    return {getattr(thing, kind) for thing in things for kind in kinds} - {None}


if test.truth is not None:
    seen = [parts(scene.objects) for scene in test.truth.scenes]
    meanings = [caption.meaning for caption in test.truth.captions]
    said = [parts([*m.objects, *([m.count[0]] if m.count else [])]) for m in meanings]
    every = np.arange(len(owner))
    table, kind_of_miss = {}, {}
    for name, winner in first_place.items():
        fits = truth[winner, every]
        has_parts = np.array([said[c] <= seen[i] for c, i in enumerate(winner)])
        kinds = {
            "right": winner == owner,
            "caption true of it, too": (winner != owner) & fits,
            "all parts there, not as said": (winner != owner) & ~fits & has_parts,
            "a part is missing": (winner != owner) & ~fits & ~has_parts,
        }
        table[name] = {kind: f"{100 * chosen.mean():.1f} %" for kind, chosen in kinds.items()}
        kind_of_miss[name] = kinds
    display(pd.DataFrame(table).T)

# %% [markdown]
# *All parts there, not as said*: the picture has every shape, colour and texture that the caption names, in another arrangement or number. That is the miss of a bag of words, and both readings commit it: the global one for 35.0 % of the captions, the local one for 28.3. What sets them apart is the cruder miss: in 23.9 % of the cases the picture that the global vector puts first lacks something that the caption names, against 5.8 %. Two captions whose parts are all there:

# %%
if test.open_picture is not None:
    confused = (first_place["global"] != owner) & (first_place["local"] == owner)
    if test.truth is not None:
        rearranged = kind_of_miss["global"]["all parts there, not as said"]
        confused = confused & rearranged if (confused & rearranged).any() else confused
    ranks = image_ranks(scores["global"], owner)
    near = np.flatnonzero(confused)[np.argsort(ranks[confused], kind="stable")][:2]
    titles = {
        "global": "By the global score another picture comes first",
        "local": "By the local score the right one does",
    }
    for name, title in titles.items():
        if len(near):
            figure = figures.image_gallery(test, scores[name], near.tolist(), title)
            alt = f"Two captions with the five pictures that the {name} score puts first."
            show(figure, alt=alt + " The true picture is framed in green.")

# %% [markdown]
# **Twins** ask the same question in its purest form (lesson 01): two pictures that differ by an exchange, a red circle and a blue square against a blue circle and a red square (*swaps*), or by one replaced property (*replaces*).

# %%
for kind, probe in splits.probes.items():
    for name, probe_scores in read(model, probe)[2].items():
        choice = pair_accuracy(probe_scores)["image"]
        print(f"{kind:9s} {name:7s} {choice:5.1f} % of captions prefer their own picture")
        if kind == "swaps" and name != "both":
            lesson.record(**{f"swaps_{name}": choice})
if not splits.probes:
    print("Twins need a world in which everything is known: run this section on the scenes.")

# %% [markdown]
# On swaps the global reading has 81.0, 82.6, 80.2 % in the recorded runs, the local reading of the same network 97.8, 97.2, 94.8. A coin has 50, and so has every other model of this course with one vector a side: VSE 49.2, 50.0, 50.2 %, with encoders of the same size and about the same recall. So one vector *can* hold a good part of who has which colour, if it is made of tokens in which that is already sorted out, and by a top that had time to learn (section 4 has tops that had not).
#
# All the same, one vector loses much that the tokens know. For a search that need not matter. A first stage must put the right picture *somewhere among the first*, and can leave the rest to the second.
#
# ### Inter alone against inter + intra
#
# What does the intra-modal term do to the geometry? Nothing flows back, so the branches can stay: on copies of them, train the top anew for one epoch of half the pictures, without the term and with it, from the same start and with the same batches.


# %%
def trained_on_top(intra_weight):
    """The top, trained anew on the finished branches: one epoch of half the pictures."""
    other = copy.deepcopy(fresh)
    with other.global_alone():
        train(
            other,
            replace(on_top.objective, intra_weight=intra_weight),
            tokenizer,
            splits.train.take(np.arange(len(splits.train) // 2)),
            splits.val,
            replace(on_top.training, epochs=1),
            device=lesson.device,
        )
    return other


first = np.unique(test.image_of_caption, return_index=True)[1]  # one caption a picture
one_each = replace(
    test,
    captions=tuple(test.captions[c] for c in first),
    image_of_caption=np.arange(len(test)),
    truth=None,
)
structures, agreement = {}, {}
for name, weight in (("inter alone", 0.0), ("inter + intra", 1.0)):
    read_once = encode(trained_on_top(weight), tokenizer, one_each, device=lesson.device)
    structures[name] = tuple(cosine_scores(side.whole, side.whole).cpu() for side in read_once)
    agreement[name] = structure_agreement(*structures[name])

# %% tags=["key-figure"]
few = {name: [matrix[:24, :24] for matrix in both] for name, both in structures.items()}
figure = figures.structure_maps(
    few, "24 test pairs: with the intra-modal term pictures and captions disagree less"
)
show(
    figure,
    alt=(
        "Three heat maps for each of two models: cosines among 24 pictures, among their "
        "captions in the same order, and the absolute differences of the two."
    ),
)

# %%
notes = {
    name: f"gap {told['structure_gap']:.2f}, correlation {told['structure_correlation']:.2f}"
    for name, told in agreement.items()
}
figure = figures.structure_scatter(
    structures,
    notes,
    "The intra-modal term narrows what pictures and captions disagree on",
)
show(
    figure,
    alt=(
        "Cosine of two captions against cosine of their pictures for pairs of test pairs, "
        "without and with the intra-modal term; the band of disagreement up to 0.3 is shaded."
    ),
)

# %% [markdown]
# *Gap* is the mean over $j$ of $\max_i \lvert T_{ij} - V_{ij} \rvert$ over all test pairs, what the loss limits in batches. (The maximum of 1,000 partners is larger than that of 128.) *Correlation* is that of $V_{ij}$ and $T_{ij}$ over all $i < j$. Read them together: a collapsed model has gap 0, too.
#
# Recorded with three seeds, with as many epochs as the recipe has:

# %%
columns = {
    "gap": ("structure_gap", 2),
    "correlation": ("structure_correlation", 2),
    "global, text→image R@1": ("global_t2i_r1", 1),
    "global, image→text R@1": ("global_i2t_r1", 1),
    "global rSum": ("global_rsum", 1),
    "both, rSum": ("rsum", 1),
}
labels = {"without intra": "inter alone", "TGDT": "inter + intra"}
if of(*labels):
    told = {
        label: {column: by_seed(name, *what) for column, what in columns.items()}
        for name, label in labels.items()
    }
    display(pd.DataFrame(told).T)
else:
    print("No recorded runs for these data.")

# %% [markdown]
# The term does what it says: the gap is 0.70, 0.71, 0.70 without it and 0.56, 0.56, 0.56 with it. The correlation rises by little, from 0.36, 0.35, 0.35 to 0.37, 0.37, 0.37. Does retrieval gain from it? Global R@1, text to image, is 39.9, 41.3, 41.5 with it and 39.0, 40.4, 40.3 without: higher in every seed, by 0.9, 0.9, 1.2 points (global rSum by 4.4, 7.6, 7.5). It is a small gain, smaller than the seeds' spread of 1.6 points, but it has the same sign in all three. Of both readings together 0.9, 0.3, 0.4 points are left.

# %%
lesson.clock(34)

# %% [markdown]
# ## 4. What is each part worth?
#
# All with the same encoders; three seeds each, recorded.
#
# | name | what |
# | --- | --- |
# | TGDT | branches first, three epochs, then the top, four; InfoNCE and intra |
# | longer branches | the same with seven epochs for the branches |
# | without intra | TGDT without the intra-modal term |
# | hinge | the same branches, the top with the paper's hinge in place of InfoNCE: one epoch with all negatives, one with the hardest |
# | at once | branches and top in the same three epochs, detached, as in the released training (but with InfoNCE) |
# | joint | at once, and the global loss reaches the branches, too |
# | global only | joint, without the local loss |
# | TERAN | the local reading alone, seven epochs |
# | VSE | one vector a side, a layer for each of theirs, pooled by GPO; InfoNCE, seven epochs |

# %%
columns = {
    "global": ("global_t2i_r1", 1),
    "local": ("local_t2i_r1", 1),
    "both": ("t2i_r1", 1),
    "rSum, both": ("rsum", 0),
    "swaps, global": ("global_swaps", 1),
    "swaps, both": ("swaps", 1),
    "gap": ("structure_gap", 2),
    "correlation": ("structure_correlation", 2),
}
variants = ("TGDT", "longer branches", "without intra", "hinge", "at once", "joint")
variants += ("global only", "TERAN", "VSE")
left_out = {"global only": ("local", "both", "rSum, both", "swaps, both")}  # not trained
one_reading = {
    "TERAN": "local",
    "VSE": "global",
}  # their metrics have no reading in their names
told = {
    name: {
        column: "" if column in left_out.get(name, ()) else by_seed(name, *what)
        for column, what in columns.items()
    }
    for name in variants
    if of(name)
}
for name, reading in one_reading.items():
    if name in told:
        of_both = {column: told[name][column] for column in ("both", "swaps, both")}
        told[name] |= dict.fromkeys(("both", "rSum, both", "swaps, both"), "")
        told[name][reading] = of_both["both"]
        if reading == "global":
            told[name]["swaps, global"] = of_both["swaps, both"]
if told:
    print("text to image R@1 by each reading; a number a seed")
    display(pd.DataFrame(told).T)
else:
    print("No recorded runs for these data.")

# %% tags=["key-figure"]
results = of(*variants)
for name, reading in one_reading.items():
    if name in results:
        results[name] = [{f"{reading}_t2i_r1": run["t2i_r1"]} for run in results[name]]
if results:
    figure = figures.reading_bars(
        results,
        {"TERAN": ["local_"], "VSE": ["global_"], "global only": ["global_"]},
        "A top on finished branches reads best; joint training costs the local reading",
    )
    show(
        figure,
        alt=(
            "Bars of text to image R@1 by the global reading, the local reading and both, for "
            "each variant, with a dot for each seed."
        ),
    )
else:
    print("No recorded runs for these data.")

# %% [markdown]
# How to read this, seed by seed (scenes, quick profile):
#
# - **One reading or two.** The local reading of TGDT finds 62.1, 61.4, 60.5 % of the pictures, both together 62.9, 62.8, 61.5: the global score adds 0.8 to 1.4 points. TERAN, which spends all seven epochs on its branches, finds 67.6, 66.9, 67.4. So two readings out of one budget have their price. Who can afford eleven epochs need not pay it: on branches that had seven (*longer branches*), the local reading is that TERAN, and both together find 68.0, 67.6, 67.3.
# - **The global reading alone** finds 39.9, 41.3, 41.5 % text to image and 70.5, 72.3, 71.3 image to text; VSE, one vector a side of its own and seven epochs for nothing else, 42.6, 42.5, 42.6 and 69.2, 69.7, 70.6. A little behind in one direction, level or ahead in the other, and far ahead on swapped twins. On longer branches it finds 43.4, 42.3, 43.0 and 73.9, 74.6, 74.2.
# - **Without the local loss** the same network finds 8.5, 10.1, 4.4 in three epochs. Reading the whole from a first token is hard to learn from nothing. (No proof that a global vector needs guidance: VSE, which pools all tokens, does well without.)
# - **Detached or joint.** At once and detached, the local reading has 61.8, 60.0, 60.7, joint 55.5, 57.6, 56.9. The global loss, let into the branches, costs the alignment 2 to 6 points, and its twins: 97.6, 96.0, 93.4 of swaps detached, 82.8, 92.8, 88.2 joint. The global reading gains 0.0 to 2.3 points by it (24.3, 26.2, 23.8 against 26.6, 27.6, 23.8). Here the barrier is right.
# - **In turn or at once.** At once the global reading has 24.3, 26.2, 23.8, in turn 39.9, 41.3, 41.5. In turn the top has four epochs instead of three, twice the learning rate, and branches that do not change under it. (So this compares two recipes, not the order alone.) The local reading does not care: 61.8, 60.0, 60.7 against 62.1, 61.4, 60.5.
# - **The hinge** on the same branches: 21.9, 22.1, 21.8 %, after one epoch with all negatives and one with the hardest. Its gap is 0.06, 0.06, 0.05: V and T hardly differ. By itself that is no success: R@1 is half of what InfoNCE reaches.
# - **Who has which colour.** On swapped twins the global vector has 81.0, 82.6, 80.2 %, on longer branches 86.0, 86.8, 85.8, at once 55.6, 61.8, 58.2, joint 51.6, 55.6, 51.0, with the hinge 56.6, 57.4, 56.2, without the local loss 49.8, 50.6, 50.0. Tokens that know it are not enough, as *at once* shows, whose tokens know it as well; the top must have learnt to read them.

# %%
lesson.clock(30)

# %% [markdown]
# ## 5. Search in two stages
#
# A query asks $N$ pictures. With vectors of $D$ numbers, $R$ regions a picture and $W$ words in the query, the global score of all pictures takes $N D$ multiplications, the local one $N R W D$. In two stages:
#
# 1. score all $N$ pictures by the global vectors;
# 2. take the first $K$, the **shortlist**, and order *them* anew by global + $w$ · local. The others follow behind, in their global order.

# %%
figure = figures.two_stage_diagram(
    title="The second stage reorders the shortlist, and never sees the rest"
)
show(
    figure,
    alt=(
        "Above, 14 items in their global order, the first 5 dark. Below, the first 5 in a new "
        "order and the other 9 as they were."
    ),
)

# %%
D, R, W = (
    images.whole.shape[1],
    float(images.mask.sum(dim=1).float().mean()),
    float(captions.mask.sum(dim=1).float().mean()),
)
print(f"D = {D}, on average {R:.0f} regions a picture and {W:.0f} words a caption")
for N in (len(test), 25_000, 1_000_000):
    costs = {"global": N * D, "K = 50": N * D + 50 * R * W * D, "all aligned": N * R * W * D}
    print(f"N = {N:9,d}", *(f"{name} {cost:9.1e}" for name, cost in costs.items()), sep="   ")

# %% [markdown] exercise="two-stage-search" difficulty=3 minutes=8 points=4
# ### Your turn: two stages
#
# Write `two_stage_search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight)` for one caption: its vector $(D,)$ and its words $(W, E)$, all real; the pictures' vectors $(N, D)$, regions $(N, R, E)$ and masks $(N, R)$. All have length 1. Return the rows of *all* pictures, best first, $(N,)$: the shortlist by global + `local_weight` · MrSw, then the others in their global order. Align the shortlist only. It may be longer than $N$.
#
# <details><summary>Help 1: the idea</summary>
#
# Sort all by `wholes @ query_whole`, cut the order in two at `shortlist`, sort the first part anew, and put the two together.
# </details>
# <details><summary>Help 2: MrSw of the shortlist</summary>
#
# With `rows` the first part of the order: `torch.einsum("we,kre->kwr", query_words, regions[rows])`, filled with `-torch.inf` where `~mask[rows][:, None]`, its maximum over the regions, summed over the words.
# </details>
# <details><summary>Help 3: rows and places</summary>
#
# `argsort` on the new scores gives *places in the shortlist*. The rows are `rows[final.argsort(descending=True)]`.
# </details>


# %% solution="two-stage-search"
def two_stage_search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    """All rows, best first: (D,), (W,E), (N,D), (N,R,E), (N,R) bool, int, float -> (N,) long.

    Query [1, 0] with the word [1, 0]; wholes [1, 0], [.8, .6], [0, 1] with one region each, [0, 1],
    [1, 0], [1, 0]; weight 2: a shortlist of 2 gives [1, 0, 2], one of 3 gives [1, 2, 0].
    """
    ### BEGIN SOLUTION
    whole_scores = wholes @ query_whole
    order = whole_scores.argsort(descending=True)
    rows, others = order[:shortlist], order[shortlist:]
    aligned = torch.einsum("we,kre->kwr", query_words, regions[rows])
    best = aligned.masked_fill(~mask[rows][:, None], -torch.inf).amax(dim=2)
    final = whole_scores[rows] + local_weight * best.sum(dim=1)
    return torch.cat([rows[final.argsort(descending=True)], others])
    ### END SOLUTION


# %% check="two-stage-search"
two_stage_search = check("two-stage-search", two_stage_search)

# %% [markdown]
# In the library: `TwoStageIndex` in `itr_lib/search/`. Items are added once, the index is saved and loaded, and asked by batches of queries. `for_model` takes from the model how tokens are aligned (here MrSw) and what the local score weighs, so that the index ranks as the model scores; from then on it needs only what the encoders return. Tokens lie one after the other without padding (lesson 02, section 5).

# %%
index = TwoStageIndex.for_model(model, "images")
index.add(test.image_ids, images)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "pictures.index"
    index.save(path)
    kilobytes = path.stat().st_size / 1024 / len(test)
    index = TwoStageIndex.load(path, model=model)
asked = rows_of(captions, torch.arange(3, device=lesson.device))
found = index.query(asked, shortlist=50, top=3)
for c, ids in enumerate(found.ids):
    place = ids.index(test.image_ids[owner[c]]) + 1 if test.image_ids[owner[c]] in ids else "-"
    print(f"“{test.captions[c]}”: {', '.join(ids)}; the true one at {place}")
print(f"{kilobytes:.1f} KiB an image, of which {4 * D / 1024:.1f} are the global vector")

# %% [markdown]
# A shortlist of everything must give the ranking of both scores, everywhere:

# %%
some = torch.arange(min(200, len(test.captions)), device=lesson.device)
ranked = index.query(rows_of(captions, some), shortlist=len(index), top=len(index))
exhaustive = scores["both"][:, : len(some)].T
drift = (ranked.scores - exhaustive.gather(1, ranked.rows)).abs().max()
falls = exhaustive.gather(1, ranked.rows).diff(dim=1).max()
print(
    f"scores differ by at most {drift:.1e}; from one place to the next they rise by at most",
    end=" ",
)
print(f"{max(0.0, float(falls)):.1e}: the order of both scores, up to the last bits")

# %% [markdown]
# ### How long must a shortlist be?
#
# Three things against $K$: how often the match is in the shortlist at all, what R@1 comes of it, and the time of one query. In both directions: captions ask the pictures, and pictures ask all the captions.


# %%
def single(encoded, how_many=100):
    """Queries one by one, on the CPU where the index lies."""
    count = len(encoded.whole)
    drawn = np.random.default_rng(seed).permutation(count)[:how_many]
    return [GlobalTokens(*(part[c : c + 1].cpu() for part in encoded)) for c in drawn]


def milliseconds(some_index, queries, shortlist):
    """The median time of one query, after a few to warm up."""
    times = []
    for query in [*queries[:5], *queries]:
        began = perf_counter()
        some_index.query(query, shortlist=shortlist, top=10)
        times.append(perf_counter() - began)
    return 1e3 * float(np.median(times[5:]))


caption_index = TwoStageIndex.for_model(model, "captions")
caption_index.add([f"caption {c}" for c in range(len(test.captions))], captions)
sides = {"t2i": (index, single(captions)), "i2t": (caption_index, single(images))}
shortlists = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500) if k < len(test)] + [len(test)]
whole_ranks = {
    "t2i": image_ranks(scores["global"], owner),
    "i2t": caption_ranks(scores["global"], owner),
}
staged = [two_stage_metrics(scores["global"], scores["local"], owner, k) for k in shortlists]

# %% tags=["key-figure"]
inside = {d: [100 * np.mean(r <= k) for k in shortlists] for d, r in whole_ranks.items()}
recalls = {d: [m.as_dict()[f"{d}_r1"] for m in staged] for d in sides}
times = {d: [milliseconds(*side, k) for k in shortlists] for d, side in sides.items()}
all_aligned = {
    d: (metrics["both"].as_dict()[f"{d}_r1"], milliseconds(*side, len(side[0])))
    for d, side in sides.items()
}
figure = figures.shortlist_curves(
    shortlists,
    inside,
    recalls,
    times,
    all_aligned,
    "R@1 levels off long before the shortlist holds every match",
)
show(
    figure,
    alt=(
        "Three panels against the length of the shortlist (log scale), text to image and image "
        "to text: matches in the shortlist, R@1 with that of aligning everything dashed, and "
        "milliseconds of a query with the time of aligning everything dashed."
    ),
)

# %%
at = shortlists.index(min(50, len(test)))


def in_a_batch(some_index, queries, shortlist):
    """The time of one query, in milliseconds, when all are asked in one call; the best of three."""
    together = GlobalTokens(*(torch.cat(part) for part in zip(*queries, strict=True)))
    best = best_time(lambda: some_index.query(together, shortlist=shortlist).scores, repeats=3)
    return 1e3 * best / len(queries)


kept = {d: 100.0 for d in sides}  # where aligning everything finds nothing, nothing is lost
kept |= {d: 100 * recalls[d][at] / a for d, (a, _) in all_aligned.items() if a > 0}
for d, name in (("t2i", "text to image"), ("i2t", "image to text")):
    print(f"{name}, K = {shortlists[at]} of {len(sides[d][0]):,}")
    print(
        f"  R@1 {recalls[d][at]:.1f} of {all_aligned[d][0]:.1f}: {kept[d]:.1f} % of it is kept"
    )
    once = times[d][at], all_aligned[d][1]
    together = [in_a_batch(*sides[d], k) for k in (shortlists[at], len(sides[d][0]))]
    for how, (fast, slow) in (("one by one", once), ("100 in a call", together)):
        print(
            f"  {how:13s} {fast:.2f} of {slow:.2f} ms a query: 1/{slow / fast:.0f} of the time"
        )
lesson.record(k50_t2i_r1=recalls["t2i"][at], kept_t2i=kept["t2i"], kept_i2t=kept["i2t"])

# %% [markdown]
# Why does R@1 reach its end so much earlier than the matches in the shortlist do? A match that the global reading puts at place 300 is likely to be one that the local reading would not have put first either. What counts is where the queries stand that the *full* ranking gets right:

# %%
right = image_ranks(scores["both"], owner) == 1
for k in shortlists:
    share = 100 * np.mean(whole_ranks["t2i"][right] <= k) if right.any() else 0.0
    print(
        f"K = {k:5,d}: {share:5.1f} % of what the full ranking gets right is in the shortlist"
    )

# %% [markdown]
# Here, K = 50 keeps 99.4 % of the R@1 of aligning everything text to image, and 99.5 % image to text; in the three recorded runs 99.6, 99.9, 99.8 and 99.3, 99.9, 99.8. What it saves depends on the machine. Captions one by one among 1,000 pictures take a third to a ninth of the time, a hundred in one call a sixth to a twelfth; pictures among 5,000 captions take a seventh to a twentieth. The alignments alone are a twentieth, but each query has a fixed price for checks and sorting, whatever K is. Where the machine aligns fast, that price weighs more.
#
# What if the gallery is larger? Time does not depend on whether the items mean anything, so make a gallery of 25 copies of the test pictures with a little noise. (Made, not trained on, and nothing is measured on it but time.)

# %%
noise = torch.Generator().manual_seed(seed)
large = TwoStageIndex.for_model(model, "images")
for turn in range(25):
    shaken = [
        part.float().cpu() + 0.02 * torch.randn(part.shape, generator=noise)
        for part in (images.whole, images.vectors)
    ]
    ids = [f"{turn}/{name}" for name in test.image_ids]
    large.add(ids, GlobalTokens(*map(l2_normalise, shaken), images.mask.cpu()))
slow = milliseconds(large, sides["t2i"][1][:10], len(large))
for k in (10, 50, 100, 500):
    fast = milliseconds(large, sides["t2i"][1][:30], k)
    print(f"{len(large):,} items, K = {k:3d}: {fast:6.2f} ms a query, all aligned", end=" ")
    print(f"{slow:.1f} ms: {slow / fast:.0f} times as long")
gigabytes = large.bytes_per_item * len(large) / 2**30
print(f"the index holds {gigabytes:.2f} GiB, nearly all of it tokens")
del large, shaken

# %% [markdown]
# The longer the gallery, the more is saved: the second stage costs the same, however many items there are. What grows is the first stage, and for that there are approximate searches that do not even look at every vector (FAISS, HNSW: further reading). Memory is not saved: all tokens must be kept, for whoever comes into a shortlist.
#
# ### How much should each reading count?
#
# Global + $w$ · local, with $w = 1$ so far, as released. $w = 0$ is the global reading alone, and $w \to \infty$ the local one. Choose on *validation*, never on test.

# %%
val_scores = read(model, splits.val)[2]
weights = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def mixed(some_scores, weight):
    return some_scores["global"] + weight * some_scores["local"]


val_owner = splits.val.image_of_caption
by_weight = [retrieval_metrics(mixed(val_scores, w), val_owner) for w in weights]
chosen = weights[int(np.argmax([found.rsum for found in by_weight]))]
figure, axes = plt.subplots(1, 2, figsize=(8.8, 3.4))
for axis, metric in zip(axes, ("t2i_r1", "i2t_r1"), strict=True):
    axis.plot(weights, [found.as_dict()[metric] for found in by_weight], "o-", ms=4)
    for name, style in (("local", "--"), ("global", ":")):
        end = retrieval_metrics(val_scores[name], val_owner).as_dict()[metric]
        axis.axhline(end, color=figures.REFERENCE, ls=style, lw=1.2, label=f"{name} alone")
    axis.set(xscale="log", xlabel="weight of the local score, w")
    axis.legend(frameon=False, fontsize=9)
axes[0].set(ylabel="validation R@1 (%)", title="text to image")
axes[1].set_title("image to text")
figure.suptitle(
    "On validation a mixture finds more than either reading alone", x=0.01, ha="left"
)
show(figure, alt="Validation R@1 in both directions against the weight of the local score.")

# %%
for weight in dict.fromkeys((1.0, chosen)):
    again = two_stage_metrics(
        scores["global"], scores["local"], owner, shortlists[at], local_weight=weight
    )
    print(
        f"w = {weight:g}, test, K = {shortlists[at]}: text to image R@1 {again.t2i_r1:.1f}",
        end="",
    )
    print(f", image to text {again.i2t_r1:.1f}, rSum {again.rsum:.1f}")
print(f"chosen on validation, by rSum: w = {chosen:g}")

# %% [markdown]
# Validation chooses $w = 2$. On test that gives 63.0 and 91.9 instead of 61.6 and 91.4: in this run the global score, at weight 1, costs text to image 0.4 points against the local score alone and adds 2.4 image to text. (In the recorded runs it adds in both directions.)

# %%
lesson.clock(20)

# %% [markdown]
# ## 6. The honest rank
#
# R@1 of a search in two stages: what is the rank of a query whose match is *not in the shortlist*? Here is an evaluation, written as such things are written. A list of places, set to zero; for every query, look where the match stands in the reordered shortlist; count.


# %%
def recall_as_found(global_scores, local_scores, match, shortlist, cutoffs=(1, 5, 10)):
    """R@K of a search in two stages, with a mistake: (Q, N), (Q, N), (Q,) -> percent by cutoff."""
    places = np.zeros(len(match))
    for q in range(len(match)):
        candidates = np.argsort(-global_scores[q])[:shortlist]
        final = global_scores[q, candidates] + local_scores[q, candidates]
        reordered = candidates[np.argsort(-final)]
        hit = np.flatnonzero(reordered == match[q])
        if len(hit):
            places[q] = hit[0]
    return {k: 100 * np.mean(places < k) for k in cutoffs}


two_levels = [scores[name].T.numpy() for name in ("global", "local")]  # captions ask
flattering = [recall_as_found(*two_levels, owner, k) for k in shortlists]
for k, told in zip(shortlists, flattering, strict=True):
    print(f"K = {k:5,d}: text to image R@1 {told[1]:5.1f} %")

# %% [markdown]
# Something is odd. The *shorter* the shortlist, the better the search, and with a shortlist of one it is perfect.
#
# <details><summary>Look at the function before you open this: where is the mistake?</summary>
#
# `places` begins with zeros, and 0 is the *first place*. A query whose match is not in the shortlist never gets another number, so it counts as found at once. With K = 1 the shortlist holds either the match, at place 0, or something else, and then the place stays 0. All queries are hits.
#
# The worse the first stage, the better the number. Nobody looks for a bug in a number that is too good.
# </details>
#
# It is easy to write, and it was written: in the released evaluation of TGDT, a query whose match is missing from the shortlist has rank 0, a hit at every cutoff. (Its shortlists are 50 captions and 100 pictures. How much the mistake adds there we have not measured.)
#
# An honest rank: the search returned the shortlist and then the others in their global order. So a match outside keeps its global rank, which is at least $K + 1$.

# %% [markdown] exercise="honest-rank" difficulty=3 minutes=8 points=4
# ### Your turn: ranks of two stages
#
# Write `two_stage_ranks(global_scores, local_scores, truth, shortlist, local_weight)`: two matrices $(Q, N)$, a row a query, and for each query the column of its match, `truth` $(Q,)$, to ranks $(Q,)$, integers from 1. Inside the shortlist, the rank by global + `local_weight` · local *among the shortlist*; outside, the global rank. (No two scores are equal here. The shortlist may be longer than $N$.)
#
# <details><summary>Help 1: the idea</summary>
#
# Two ranks for every query, and `torch.where` to choose. Or a loop over the queries that makes the whole order, `torch.cat([shortlist in its new order, others])`, and looks where the match stands.
# </details>
# <details><summary>Help 2: places</summary>
#
# `scores.argsort(dim=1, descending=True).argsort(dim=1)` gives every candidate its place from 0. A candidate is in the shortlist where its global place is below `shortlist`.
# </details>
# <details><summary>Help 3: the rank inside</summary>
#
# One more than the number of candidates that are in the shortlist *and* have a higher new score than the match: `(inside & (final > final.gather(1, truth[:, None]))).sum(dim=1) + 1`.
# </details>


# %% solution="honest-rank"
def two_stage_ranks(global_scores, local_scores, truth, shortlist, local_weight):
    """Ranks from 1: (Q, N), (Q, N), (Q,) long, int, float -> (Q,) long.

    For global [[.9, .5, .1]], local [[0, 1, 2]], truth [2] and weight 1: shortlist 2 gives [3],
    shortlist 3 gives [1].
    """
    ### BEGIN SOLUTION
    places = global_scores.argsort(dim=1, descending=True).argsort(dim=1)
    final, own = global_scores + local_weight * local_scores, truth[:, None]
    inside = places < shortlist
    again = (inside & (final > final.gather(1, own))).sum(dim=1) + 1
    return torch.where(inside.gather(1, own)[:, 0], again, places.gather(1, own)[:, 0] + 1)
    ### END SOLUTION


# %% check="honest-rank"
two_stage_ranks = check("honest-rank", two_stage_ranks)

# %% [markdown]
# In the library: `two_stage_metrics` in `itr_lib/evaluation/two_stage.py`, for five captions an image and with ties decided against the model. How large is the difference?

# %% tags=["key-figure"]
cutoffs = (1, 5, 10)
honest = {c: [found.as_dict()[f"t2i_r{c}"] for found in staged] for c in cutoffs}
flattered = {c: [told[c] for told in flattering] for c in cutoffs}
figure = figures.honest_curves(
    shortlists,
    honest,
    flattered,
    "Count a miss as a hit, and the worst first stage makes the best result",
)
show(
    figure,
    alt=(
        "Text to image R@1, R@5 and R@10 against the length of the shortlist. Where a miss "
        "counts as a hit the curves start at 100 % and fall; honestly ranked they rise."
    ),
)
for k in (10, 50, 100):
    if k in shortlists:
        row = shortlists.index(k)
        points = (f"R@{c} +{flattered[c][row] - honest[c][row]:.1f}" for c in cutoffs)
        print(f"K = {k:3d}: inflated by", ", ".join(points), "points")

if 10 in shortlists:
    row = shortlists.index(10)
    lesson.record(inflation_k10=flattered[1][row] - honest[1][row])

# %% [markdown]
# At $K \geq 10$ the inflation is the share of queries whose match is missing from the shortlist, at every cutoff alike, since an honest rank of such a query is beyond them all. At K = 50 that is 7.3 points of R@1 here, 26.3 at K = 10, and 3.3 at K = 100. For comparison: TERAN and CHAN, two different methods, are 1.0 apart on the board below.
#
# **Two tests for any evaluation that you write or take over.** Give it a model that knows nothing: it must report chance. And make the search worse: the number must not rise.

# %%
lesson.clock(9)

# %% [markdown]
# ## 7. The leaderboard
#
# Which method should you take? It depends on what a query may cost. A method is on the **Pareto front** if no other is at least as good in both, cost and recall, and better in one.

# %% [markdown] exercise="pareto-front" difficulty=2 minutes=5 points=2
# ### Your turn: the Pareto front
#
# Write `pareto_front(cost, recall)`: two tensors $(n,)$ to $(n,)$ bool, True where *no* other method is at least as good in both (cost no higher, recall no lower) and better in one. Methods that are equal in both do not beat each other: both stay, if nobody else beats them.
#
# <details><summary>Help 1: the idea</summary>
#
# Compare every method $i$ with every method $j$: `cost[:, None] <= cost` is $(n, n)$, True where $i$ costs no more than $j$.
# </details>
# <details><summary>Help 2: nearly there</summary>
#
# $i$ beats $j$ where it is no worse in both *and* better in one, `no_worse & better`. A method stays where nobody beats it: `~beats.any(dim=0)`.
# </details>


# %% solution="pareto-front"
def pareto_front(cost, recall):
    """Who is beaten by nobody: (n,), (n,) -> (n,) bool.

    For cost [1, 2, 3, 3] and recall [30, 50, 40, 50]: [True, True, False, False].
    """
    ### BEGIN SOLUTION
    no_worse = (cost[:, None] <= cost) & (recall[:, None] >= recall)  # i no worse than j
    better = (cost[:, None] < cost) | (recall[:, None] > recall)
    return ~(no_worse & better).any(dim=0)
    ### END SOLUTION


# %% check="pareto-front"
pareto_front = check("pareto-front", pareto_front)

# %% [markdown]
# Now all five models of the course, with the same encoders (three layers of BERT, a perceptron and a transformer layer over the regions, 128 wide), the same scenes and the same batches of 128. All saw the training data seven times: TGDT's branches took three of those epochs, and its top, two more layers a side, the other four. VSE is trained by InfoNCE, since the hinge collapsed with one seed of three (lesson 02). USER has its own loss and queues of 2,048 keys.
#
# TGDT stands there three times, as one network can be asked in three ways. Two more systems had more than seven epochs: TGDT with the *longer branches* of section 4, eleven; and *VSE, then TERAN*, fourteen, what anybody with two networks would try first. There VSE's vectors make the shortlist, and TERAN's alignments are added to their cosines to put it in order. Accuracy is recorded over three seeds. Times were measured for all in one run, a caption at a time: to encode it, and from there to rank the pictures, by `TwoStageIndex`, but for CHAN, whose score the index does not have.

# %%
board = load_board(data)
if board:
    print(board["command"])
    display(quality_table(board))
else:
    print(
        f"No leaderboard was made for {data}: python -m data_scripts.leaderboard --data {data}"
    )

# %% [markdown]
# Recall and *pointing* (words that point at a right region, all kinds of words, lesson 02) in percent; NDCG from 0 to 1; of *twins* a coin gets half right. In brackets the lowest and the highest seed. Twins and pointing of *two stages* are those of both readings. The ceiling is a perfect reader, who points with the detector's eyes.

# %%
if board:
    display(cost_table(board))

# %% tags=["key-figure"]
if board:
    points = query_costs(board)
    beaten_by_none = front(points)
    figure = figures.tradeoff(
        points,
        "Two stages find nearly what aligning everything finds, at a fraction of its time",
        f"milliseconds to rank {board['gallery']:,} pictures",
        "text to image R@1 (%)",
        front=beaten_by_none,
    )
    show(
        figure,
        alt=(
            "Text to image R@1 against the time of a query on a log scale, a dot for each "
            "model; a dashed line joins those that no other beats in both."
        ),
    )
    print("beaten by none:", ", ".join(beaten_by_none))

# %% [markdown]
# Read it from the left. Every one-vector model ranks in 0.06 ms: the work is the same, so it was timed once. VSE finds 42.6 % text to image and 69.8 image to text, TGDT's vector 40.9 and 71.4; but only TGDT's tells swapped twins apart. USER is behind in batches of 128: it is built for small batches and long training, and leaves its plateau late (lesson 04). Two stages find what both readings find, within 0.2 points of R@1, in 0.29 ms instead of 2.6. R@10 loses 1.4 points: what is not in the shortlist is not found at all.
#
# TERAN finds 4.9 points more than both readings of TGDT, CHAN 3.9. That is no verdict on the methods: of TGDT's seven epochs its branches had three. *Longer branches* are TERAN's, with all seven, and the four epochs of the top came after them: 569 s of training instead of 353. In two stages that finds 67.3 %, what TERAN finds with everything aligned, in a ninth of the time to rank (at R@10 it loses 2.9 points). Its vector alone finds 42.9 % text to image, level with VSE's, and 74.2 image to text, 4.4 more. Here is what the barrier is good for: **whoever has a good TERAN can put a first stage on top of it, and the TERAN stays as it is.**
#
# Is one network needed for that? No. *VSE, then TERAN* finds most of all, 68.4 %. But it is two networks: 711 s of training, and every picture and every caption is encoded twice. Look at what that takes, 3.0 ms a caption against TGDT's 1.4, where the ranking takes 0.3. From a caption to its pictures that makes 3.3 ms, for TGDT in two stages 1.7, and for TERAN, with all 1,000 pictures aligned, 3.4. (With 25,000 pictures to align it would be another matter.) So on these data a second network is worth a point of recall, and costs as much again as the first.
#
# (The two that are last on the front differ by a hundredth of a millisecond, which is noise: to rank, they do the same work.)
#
# Where neither queries nor pictures are many, take TERAN. Where they are, take two stages. Where memory is what counts, one vector takes a twenty-ninth of the bytes.
#
# *Training* is in seconds with one thread, two runs side by side; between seeds of one model it differs by up to a quarter.
#
# ### What the papers report
#
# Other data, far larger encoders, features of other detectors: these numbers cannot be set beside ours, and only with care beside each other. R@1, R@5 and R@10; "–" where no source at hand gives a figure.

# %%
display(published_table())

# %%
lesson.clock(2)

# %% [markdown]
# ## What you have now
#
# | idea | in a line | in the library |
# | --- | --- | --- |
# | two readings | words and regions, and the first token of a transformer on top | `TGDT`, `GlobalTokens` |
# | the barrier | the local loss alone shapes the tokens; the top may come later | `detach`, `global_alone` |
# | CMC | the pairs, and the same geometry on both sides | `cmc_loss`, `consistency_loss` |
# | agreement | gap *and* correlation: a collapse has no gap | `structure_agreement` |
# | two stages | a dot product for all, an alignment for K | `TwoStageIndex` |
# | honest rank | a match outside the shortlist keeps its global rank | `two_stage_metrics` |
# | Pareto front | whom nobody beats in both, cost and recall | `course.leaderboard.front` |
#
# ## What you should have seen
#
# Scenes, quick profile, 1,000 test images with five captions each; three seeds, lowest to highest, recorded with one thread.
#
# | what | text to image R@1 | image to text R@1 | swapped twins |
# | --- | --- | --- | --- |
# | chance | 0.1 | 0.1 | 50 |
# | one vector (VSE, InfoNCE) | 42.5 to 42.6 | 69.2 to 70.6 | 49.2 to 50.2 |
# | TGDT, global reading | 39.9 to 41.5 | 70.5 to 72.3 | 80.2 to 82.6 |
# | TGDT, two stages, K = 50 | 61.4 to 62.7 | 91.2 to 91.6 | |
# | TGDT, both readings, all aligned | 61.5 to 62.9 | 91.4 to 92.2 | 93.0 to 97.0 |
# | TGDT, longer branches, two stages, K = 50 | 67.0 to 67.7 | 94.1 to 95.4 | |
# | VSE, then TERAN, two stages, K = 50 | 68.2 to 68.6 | 95.4 to 96.4 | |
# | TERAN | 66.9 to 67.6 | 94.3 to 96.1 | 98.0 to 99.4 |
# | joint | 54.0 to 57.2 | 80.5 to 85.7 | 82.2 to 92.0 |
# | hinge on top, global reading | 21.8 to 22.1 | 38.6 to 42.4 | 56.2 to 57.4 |
# | ceiling (a perfect reader) | 89.3 | 100 | 100 |
#
# ## Three questions
#
# <details><summary>A first stage finds 48 % at R@1, and 99 % of the matches are among its first 100. Another finds 55 % at R@1, and 90 % among its first 100. Which do you take for a search in two stages with a good second stage?</summary>
#
# The first, with K = 100. What the second stage can find is bounded by what is in the shortlist, and what the first stage puts at place 1 hardly matters, since the order inside is made anew. A first stage is chosen by its recall at K, not by R@1.
# </details>
# <details><summary>Somebody reports that with the intra-modal term the gap between V and T went from 0.5 to 0.02. What do you ask before you are pleased?</summary>
#
# What the cosines are. A model that maps everything to one vector has no gap at all, nor any idea of its pictures. Ask for the correlation of V and T, their spread, and the recall.
# </details>
# <details><summary>You double the gallery. What happens to the time of a query in two stages, and to its recall, if K stays as it is?</summary>
#
# The first stage takes twice as long, the second as long as before. The match now has twice as many to beat for a place in the shortlist: its global rank about doubles, and so more matches are missed. To miss as few, K must grow about as the gallery does, and with it the second stage. (And R@1 falls with everything aligned as well: a larger gallery is harder.)
# </details>
#
# ## Further reading
#
# - C. Liu, Y. Zhang, H. Wang, W. Chen, F. Wang, Y. Huang, Y.-D. Shen, L. Wang. *Efficient token-guided image-text retrieval with consistent multimodal contrastive training.* IEEE Transactions on Image Processing 32:3622-3633, 2023. arXiv 2306.08789. TGDT and CMC.
# - N. Messina, G. Amato, A. Esuli, F. Falchi, C. Gennaro, S. Marchand-Maillet. *Fine-grained visual textual alignment for cross-modal retrieval using transformer encoders.* ACM TOMM 17(4), 2021. arXiv 2008.05231. TERAN: the local reading.
# - Y. Zhang, Z. Ji, D. Wang, Y. Pang, X. Li. *USER: Unified semantic enhancement with momentum contrast for image-text retrieval.* IEEE Transactions on Image Processing 33:595-609, 2024. arXiv 2301.06844.
# - Z. Pan, F. Wu, B. Zhang. *Fine-grained image-text matching by cross-modal hard aligning network.* CVPR 2023, 19275-19284. CHAN.
# - F. Faghri, D. J. Fleet, J. R. Kiros, S. Fidler. *VSE++: Improving visual-semantic embeddings with hard negatives.* BMVC 2018.
# - O. Khattab, M. Zaharia. *ColBERT: Efficient and effective passage search via contextualized late interaction over BERT.* SIGIR 2020. MrSw and two stages, for text.
# - J. Johnson, M. Douze, H. Jégou. *Billion-scale similarity search with GPUs.* IEEE Transactions on Big Data 7(3):535-547, 2021. FAISS: the first stage when there are very many.
# - Yu. A. Malkov, D. A. Yashunin. *Efficient and robust approximate nearest neighbor search using hierarchical navigable small world graphs.* IEEE TPAMI 42(4):824-836, 2020. HNSW: without looking at all of them.

# %%
lesson.clock(0)
lesson.finish()
