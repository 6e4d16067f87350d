# %% [markdown] run_minutes=4
# # 02 · Fine-grained alignment: words and regions
#
# Lesson 01 pressed a picture into one vector and a caption into another. It found the right picture often, and could not tell *a red star and a blue square* from
# *a blue star and a red square*. TERAN (2021) throws the last step away: it keeps **one vector for each region and one for each word**, and makes the score from
# all their dot products. Nobody tells it which word belongs to which region. It finds out, and in this lesson you can look at what it found.
#
# **At the end you can**
#
# - write the alignment matrix of a picture and a caption, and four of the ways in which TERAN makes a score of it;
# - keep padding out of a maximum (TERAN's released code does not), and score every pair at the price of one matrix product;
# - train alignment from whole captions only, and measure whether words point at the right regions;
# - say what this costs at search time, and why both sides can still be encoded in advance.
#
# **Time** about {{minutes}} minutes with all 6 exercises, 45 if you read and do three. **You need** lessons 00 and 01. On two CPU cores the notebook itself runs in under five minutes.

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
from time import perf_counter

import numpy as np
import torch
from IPython.display import display


from itr_lib import figures
from itr_lib.checks import check
from itr_lib.lessons import open_lesson, recipes
from itr_lib.lessons.recorded import recorded, runs_of
from itr_lib.lessons.timing import best_time
from itr_lib.data.batches import pair_batch
from itr_lib.data import load_splits
from itr_lib.data.questions import questions_of
from itr_lib.data import tokenise, train_tokenizer
from itr_lib.evaluation import (
    ceiling_scores,
    expected_recall,
    ndcg,
    pair_accuracy,
    retrieval_metrics,
)
from itr_lib.figures.explorer import aligner, explorer
from itr_lib.figures import show
from itr_lib.evaluation.pointing import (
    detector_ceiling,
    largest_box_accuracy,
    pointing_accuracy,
    question_alignments,
)
from itr_lib.evaluation.relevance import rouge_relevance
from itr_lib.similarity.precision import fastest_dtype
from itr_lib.similarity import TERAN_POOLING, alignment_scores, l2_normalise
from itr_lib.inference import encode, score
from itr_lib.training import train

lesson = open_lesson(
    "02_fine_grained_alignment", profile=profile, device=device, seed=seed, data=data, root=root
)
splits = load_splits(data, root, profile=profile)
test = splits.test
print(splits.notes)
print(f"train {len(splits.train):,} images, val {len(splits.val):,}, test {len(test):,}")

# %% [markdown]
# ## 1. Why one vector binds badly
#
# Suppose a region's vector is a sum: *red* + *star*. Pool two regions by their mean, and the picture becomes a sum of four parts. Here it is with vectors of four numbers.

# %% tags=["nbval-check-output"]
part = {"red": [1, 0, 0, 0], "blue": [0, 1, 0, 0], "star": [0, 0, 1, 0], "square": [0, 0, 0, 1]}
part = {name: torch.tensor(vector, dtype=torch.float32) for name, vector in part.items()}
picture = torch.stack([part["red"] + part["star"], part["blue"] + part["square"]])
twin = torch.stack([part["blue"] + part["star"], part["red"] + part["square"]])
print("pooled, picture:", picture.mean(0).tolist(), " pooled, twin:", twin.mean(0).tolist())
word = part["red"] + part["star"]  # what the phrase "red star" asks for
print(
    "best region for “red star”, picture:",
    float((picture @ word).max()),
    " twin:",
    float((twin @ word).max()),
)

# %% [markdown]
# The pooled vectors are the same, so no loss in the world can part the two pictures. Compared *before* pooling, region by region, they differ: the picture has a region that is both red
# and a star, the twin has none. That is the whole idea of this lesson: **compare first, pool later**.
#
# (A trained model need not use sums. But nothing in its loss keeps it from doing so, and lesson 01 measured what came of it: 49 % on swapped twins, where a coin has 50.)
#
# ## 2. Two branches that keep their tokens
#
# TERAN's two branches look like lesson 01's, without the pooling. Regions: features and geometry through an MLP, then transformer layers, so that regions see each other. Words:
# BERT, then transformer layers of the same kind. At the end every region and every word is a vector of length 1 in **one common space**. Position 0 of each branch holds a global token (a learnt
# one for the image, `[CLS]` for the caption). It exchanges information with the others, but takes no part in the score here; lesson 05 will put it to use. (The paper has four layers over the regions and two joint ones, 1,024 wide; ours has one joint layer, 128 wide.)
#
# How does a region know *where* it is? The detector's features say what is in the box. So TERAN adds five numbers: the corners and the area, in units of the picture.

# %% tags=["nbval-check-output"]
box = torch.tensor([[0.0, 120.0, 320.0, 240.0]])  # pixels, in a picture of 320 x 240
print("x1 y1 x2 y2 in the picture's units: 0, 0.5, 1, 1; area: 1 x 0.5 =", 1 * 0.5)

# %% [markdown] exercise="box-geometry" difficulty=1 minutes=4 points=1
# ### Your turn: geometry
#
# Write `box_geometry(boxes, width, height)`: boxes $(x_1, y_1, x_2, y_2)$ in pixels to $(x_1, y_1, x_2, y_2, \text{area})$, all relative to the picture, so that the whole picture is
# $(0, 0, 1, 1, 1)$.
#
# <details><summary>Help 1: the idea</summary>
#
# x belongs to the width, y to the height. Once the corners are relative, so is the area of the box between them.
# </details>
# <details><summary>Help 2: nearly there</summary>
#
# `x1, y1, x2, y2 = (boxes / boxes.new_tensor([width, height, width, height])).unbind(-1)`, then `torch.stack([...], dim=-1)`.
# </details>


# %% solution="box-geometry"
def box_geometry(boxes, width, height):
    """Corners and area in units of the picture: (R, 4) pixels -> (R, 5).

    [[0, 120, 320, 240]] in a picture of 320 x 240 is [[0, .5, 1, 1, .5]].
    """
    ### BEGIN SOLUTION
    x1, y1, x2, y2 = (boxes / boxes.new_tensor([width, height, width, height])).unbind(-1)
    return torch.stack([x1, y1, x2, y2, (x2 - x1) * (y2 - y1)], dim=-1)
    ### END SOLUTION


# %% check="box-geometry"
box_geometry = check("box-geometry", box_geometry)

# %% [markdown]
# In the library: `itr_lib.encoders.regions.box_geometry`. The model is `itr_lib/models/teran.py`; let us build a small one and follow three pairs through it.

# %%
tokenizer = train_tokenizer(splits.train.captions)
recipe = recipes.teran(profile, data, seed)
model = recipe.build(splits.train, tokenizer).to(lesson.device)
tokens = tokenise(tokenizer, splits.train.captions)
first_captions = np.unique(splits.train.image_of_caption, return_index=True)[1][:3]
batch = pair_batch(splits.train, tokens, first_captions, lesson.device)
with torch.no_grad():
    images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)
print("regions", tuple(images.vectors.shape), " real:", images.mask.sum(dim=1).tolist())
print("words  ", tuple(captions.vectors.shape), " real:", captions.mask.sum(dim=1).tolist())
print("first caption:", *tokenizer.convert_ids_to_tokens(batch.captions.ids[0]))
print(f"{sum(p.numel() for p in model.parameters()):,} weights")
lesson.clock(66)

# %% [markdown]
# Pictures have different numbers of regions and captions different numbers of words, so both are padded to one width, and a **mask** says what is real. `[CLS]`, `[SEP]` and padding
# are no words: the mask is False there.
#
# ## 3. The alignment matrix
#
# For a picture with regions $v_1 \dots v_R$ and a caption with words $w_1 \dots w_W$, the **alignment matrix** holds the cosine of every region with every word:
#
# $$ A_{rt} = \frac{v_r \cdot w_t}{\lVert v_r \rVert \, \lVert w_t \rVert} $$
#
# For a batch of pictures and captions there is one such matrix for *each picture with each caption*: four axes.

# %% tags=["nbval-check-output"]
v = torch.tensor([[1.0, 0.0], [0.6, 0.8]])  # two regions
w = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-0.6, 0.8]])  # three words
print(v @ w.T)

# %% [markdown] exercise="alignments" difficulty=2 minutes=7 points=2
# ### Your turn: every region with every word
#
# Write `alignments(regions, words)`: $(N, R, D)$ and $(M, W, D)$, vectors of any length, to the cosines $(N, M, R, W)$. A vector of zeros (padding is often zeros) scores 0.
#
# <details><summary>Help 1: the idea</summary>
#
# Bring every vector to length 1, along the last axis. Then a cosine is a dot product, and all dot products are one `torch.einsum`.
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# `torch.nn.functional.normalize(x, dim=-1)` leaves a zero vector zero. `torch.einsum("nrd,mwd->nmrw", ...)` reads: sum over d, keep the rest in this order.
# </details>


# %% solution="alignments"
def alignments(regions, words):
    """Cosine of every region of every image with every word of every caption: (N,R,D), (M,W,D) -> (N,M,R,W).

    For the v and w above, alignments(v[None], w[None])[0, 0] is [[0, 1, -0.6], [0.8, 0.6, 0.28]].
    """
    ### BEGIN SOLUTION
    regions = torch.nn.functional.normalize(regions, dim=-1)
    words = torch.nn.functional.normalize(words, dim=-1)
    return torch.einsum("nrd,mwd->nmrw", regions, words)
    ### END SOLUTION


# %% check="alignments"
alignments = check("alignments", alignments)

# %% [markdown]
# ## 4. From a matrix to a score
#
# A score should be high when every word finds its place in the picture. So each word takes its best region, and the words are added up: **MrSw**, *max over regions, sum over words*. The mirror, **MwSr**, lets
# each region take its best word.

# %%
show(
    figures.pooling_diagram(),
    alt=(
        "Two small alignment matrices. Left: each column's largest entry is marked and "
        "the marked entries are added: MrSw. Right: each row's largest entry: MwSr."
    ),
)

# %% [markdown]
# | name | score | in words |
# | --- | --- | --- |
# | MrSw | $\sum_t \max_r A_{rt}$ | every word takes its best region |
# | MrAVGw | $\frac{1}{W} \sum_t \max_r A_{rt}$ | the same, per word |
# | MwSr | $\sum_r \max_t A_{rt}$ | every region takes its best word |
# | Symm | MrSw + MwSr | both |
#
# **The trap is padding.** TERAN's released code fills padded entries of $A$ with 0 and then takes the maximum. Fine, as long as some real cosine is positive. Where *every* real cosine of a word is negative, which is
# how a wrong picture ought to look, the padding wins with its 0.

# %% tags=["nbval-check-output"]
A = torch.tensor([[-0.5], [-0.3], [0.0]])  # one word; two real regions, one padded one
print(f"with the padding: {A.max():.1f}   without it: {A[:2].max():.1f}")

# %% [markdown] exercise="mrsw" difficulty=3 minutes=10 points=3
# ### Your turn: MrSw, without the padding
#
# Write `mrsw(alignments, region_mask, word_mask)`: $(N, M, R, W)$ with the masks $(N, R)$ and $(M, W)$ to scores $(N, M)$. Whatever stands in padded places must not matter. A caption without any
# real word scores 0.
#
# <details><summary>Help 1: the idea</summary>
#
# Two steps with two different fillings: before a maximum, padding must lose; before a sum, padding must add nothing.
# </details>
# <details><summary>Help 2: the axes</summary>
#
# `region_mask[:, None, :, None]` has the shape $(N, 1, R, 1)$ and fits $(N, M, R, W)$. After the maximum over regions (axis 2) you have $(N, M, W)$, which `word_mask[None]` fits.
# </details>
# <details><summary>Help 3: nearly there</summary>
#
# `best = alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(dim=2)`, then fill the padded words with 0 and sum.
# </details>


# %% solution="mrsw"
def mrsw(alignments, region_mask, word_mask):
    """Max over real regions, sum over real words: (N,M,R,W), (N,R) bool, (M,W) bool -> (N,M).

    For the column A above with two real regions it is -0.3.
    """
    ### BEGIN SOLUTION
    best = alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(dim=2)
    return best.masked_fill(~word_mask[None], 0).sum(dim=-1)
    ### END SOLUTION


# %% check="mrsw"
mrsw = check("mrsw", mrsw)

# %% [markdown] exercise="poolings" difficulty=3 minutes=10 points=3
# ### Your turn: all four
#
# Write `pool_alignments(alignments, region_mask, word_mask, how)` for `how` in `"MrSw"`, `"MrAVGw"`, `"MwSr"`, `"Symm"`. (Here every image has a real region and every caption a real word.)
#
# <details><summary>Help 1: the idea</summary>
#
# MwSr is MrSw with the two sides exchanged. MrAVGw divides MrSw by the number of *real* words, Symm adds the first two.
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# A full mask `real = region_mask[:, None, :, None] & word_mask[None, :, None, :]` serves both maxima: fill with `-torch.inf` where it is False. `word_mask.sum(dim=1)` counts the real words.
# </details>


# %% solution="poolings"
def pool_alignments(alignments, region_mask, word_mask, how):
    """TERAN's poolings by name: (N,M,R,W), (N,R) bool, (M,W) bool -> (N,M).

    For [[0.9, -0.2, 0.1], [0.3, 0.5, -0.4]], all real: MrSw 1.5, MrAVGw 0.5, MwSr 1.4, Symm 2.9.
    """
    ### BEGIN SOLUTION
    real = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    filled = alignments.masked_fill(~real, -torch.inf)
    by_word = filled.amax(dim=2).masked_fill(~word_mask[None], 0).sum(dim=-1)
    by_region = filled.amax(dim=3).masked_fill(~region_mask[:, None], 0).sum(dim=-1)
    if how == "MrSw":
        return by_word
    if how == "MrAVGw":
        return by_word / word_mask.sum(dim=1)
    return by_region if how == "MwSr" else by_word + by_region
    ### END SOLUTION


# %% check="poolings"
pool_alignments = check("poolings", pool_alignments)

# %% [markdown]
# In the library one function does all of it: `alignment_scores(regions, words, region_mask, word_mask, **TERAN_POOLING[name])`.

# %%
with torch.no_grad():
    for name, how in TERAN_POOLING.items():
        scores = alignment_scores(
            images.vectors, captions.vectors, images.mask, captions.mask, **how
        )
        print(f"{name:7s}", *([round(x, 1) for x in row] for row in scores.tolist()))
lesson.clock(45)

# %% [markdown]
# ## 5. Packed: the price of one matrix product
#
# The four-axis tensor is easy to read and expensive. It multiplies padding, and then reads a matrix of $N M R W$ numbers again for every mask and maximum. For the batches of our training:

# %%
lengths = tokens.mask.sum(axis=1) - 2  # without [CLS] and [SEP]
drawn = np.random.default_rng(seed).permutation(len(lengths))[: recipe.training.batch_size]
regions_real = splits.train.region_mask[splits.train.image_of_caption[drawn]].sum(axis=1)
real = int(regions_real.sum()) * int(lengths[drawn].sum())
padded = (len(drawn) * int(regions_real.max())) * (len(drawn) * int(lengths[drawn].max() + 2))
print(
    f"one batch: {padded:,} dot products with padding, {real:,} without: {padded / real:.1f} times"
)

# %% [markdown]
# The remedy is to **pack**: write the words of all captions one under the other, without gaps, and likewise the regions. Then all real dot products are *one* matrix product, and the rest is bookkeeping.
#
# $$ \underbrace{\begin{pmatrix} v_1 \\ \vdots \\ v_{NR} \end{pmatrix}}_{\text{regions of all images}} \underbrace{\begin{pmatrix} w_1 & \cdots & w_T \end{pmatrix}}_{\text{words of all captions}} $$

# %% [markdown] exercise="packed-mrsw" difficulty=4 minutes=12 points=4
# ### Your turn: packed MrSw
#
# Write `packed_mrsw(regions, words, lengths)`. `regions` is $(N, R, D)$, all real; `words` is $(T, D)$, the words of all captions one after the other; `lengths` says how many belong to each caption. Return the MrSw
# scores $(N, M)$ from dot products as they are. No padding, anywhere.
#
# <details><summary>Help 1: the idea</summary>
#
# One product gives $(N R, T)$. Seen as $(N, R, T)$, the maximum over axis 1 leaves one number for each image and word. Now the columns must be added up, caption by caption.
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# `best.split(lengths, dim=1)` cuts the columns into captions. Or `torch.zeros(...).index_add(1, owner, best)`, where `owner` is the caption of each word.
# </details>
# <details><summary>Help 3: nearly there</summary>
#
# `best = (regions.reshape(-1, D) @ words.T).reshape(N, R, -1).amax(dim=1)`, then `torch.stack([some.sum(dim=1) for some in best.split(lengths, dim=1)], dim=1)`.
# </details>


# %% solution="packed-mrsw"
def packed_mrsw(regions, words, lengths):
    """MrSw without padding: (N,R,D), (T,D), list of M lengths that sum to T -> (N,M).

    With the v and w of section 3 as one image and captions of 2 words and 1 word: [[1.8, 0.28]].
    """
    ### BEGIN SOLUTION
    n, r, d = regions.shape
    best = (regions.reshape(-1, d) @ words.T).reshape(n, r, -1).amax(dim=1)
    return torch.stack([some.sum(dim=1) for some in best.split(list(lengths), dim=1)], dim=1)
    ### END SOLUTION


# %% check="packed-mrsw"
packed_mrsw = check("packed-mrsw", packed_mrsw)

# %% [markdown]
# `alignment_scores` does the same with padding on both sides and for every pooling: it packs, puts sets of equal size side by side, multiplies in blocks that fit a memory budget, and takes the maximum while a block is still in the
# cache. What is it worth? The unit is the bare product of the real vectors, written to memory in one piece. (Less than 1 is possible: a block that is reduced to its maxima in the cache never travels to memory.)

# %%
g = torch.Generator().manual_seed(seed)
n, m, dim = {"smoke": (40, 60, 64), "quick": (128, 400, 256), "full": (128, 400, 1024)}[profile]
some_v = l2_normalise(torch.randn(n, 36, dim, generator=g)).to(lesson.device)
some_w = l2_normalise(torch.randn(m, 21, dim, generator=g)).to(lesson.device)
some_v_mask = (torch.arange(36) < torch.randint(20, 37, (n, 1), generator=g)).to(lesson.device)
some_w_mask = (torch.arange(21) < torch.randint(7, 22, (m, 1), generator=g)).to(lesson.device)
packed_v, packed_w = some_v[some_v_mask], some_w[some_w_mask]


def four_axes(v, w, v_mask, w_mask):
    A = torch.einsum("nrd,mwd->nmrw", v, w)
    best = A.masked_fill(~v_mask[:, None, :, None], -torch.inf).amax(dim=2)
    return best.masked_fill(~w_mask[None], 0).sum(dim=-1)


with torch.no_grad():
    floor = best_time(lambda: packed_v @ packed_w.T)
    ways = {
        "four axes, padded": lambda: four_axes(some_v, some_w, some_v_mask, some_w_mask),
        "alignment_scores": lambda: alignment_scores(some_v, some_w, some_v_mask, some_w_mask),
    }
    for name, function in ways.items():
        print(
            f"{name:18s} {best_time(function) / floor:5.1f} times the bare product ({1e3 * floor:.0f} ms)"
        )

# %% [markdown]
# ## 6. Training: whole captions, nothing else
#
# The loss is the one of lesson 01: the hinge with the hardest negative, on the $B \times B$ matrix of MrSw scores. The only supervision is that *this caption belongs to this picture*. No word is ever told its region.

# %%
settings = vars(recipe.training) | vars(recipe.objective)
print(
    ", ".join(
        f"{name} {settings[name]}"
        for name in ("epochs", "batch_size", "learning_rate", "margin", "warmup_epochs")
    )
)
history = train(
    model,
    recipe.objective,
    tokenizer,
    splits.train,
    splits.val,
    recipe.training,
    device=lesson.device,
)
seconds = sum(epoch["seconds"] for epoch in history.epochs)
print(
    f"{len(history.epochs)} epochs in {seconds:.0f} s; best on validation: epoch {history.best_epoch + 1}"
)

# %%
figure = figures.training_curves(
    {"TERAN": history.epochs}, "Alignment learns fast, once the warm-up is over"
)
show(
    figure,
    alt="Left: training loss by epoch. Right: validation R@1 by epoch in both directions.",
)

# %%
began = perf_counter()
images, captions = encode(model, tokenizer, test, device=lesson.device)
encoded = perf_counter() - began
began = perf_counter()
with torch.no_grad():
    scores = model.scores(images, captions).cpu()
scanned = perf_counter() - began
metrics = retrieval_metrics(scores, test.image_of_caption)
references = {"chance": expected_recall(np.zeros(scores.shape), test.image_of_caption)}
if test.truth is not None:
    from itr_lib.data.scenes import graph_relevance, truth_matrix

    references["ceiling"] = expected_recall(
        ceiling_scores(truth_matrix(test.truth.scenes, test.truth.captions)),
        test.image_of_caption,
    )
lesson.record(t2i_r1=metrics.t2i_r1, i2t_r1=metrics.i2t_r1, rsum=metrics.rsum)
record = recorded("02_fine_grained_alignment", data) or {
    "command": f"nothing recorded for {data}",
    "runs": [],
}
print(record["command"])
variants = list(dict.fromkeys(run["variant"] for run in record["runs"]))
variants.sort(key=lambda variant: -np.mean([run["rsum"] for run in runs_of(record, variant)]))
rows = {"TERAN, this run": [metrics.as_dict()]}
rows |= {variant: runs_of(record, variant) for variant in variants}
rows |= {name: [values] for name, values in references.items()}
display(figures.metrics_table(rows, ["i2t_r1", "t2i_r1", "t2i_r10", "rsum"]))

# %% tags=["key-figure"]
chosen = [
    name
    for name in (
        "TERAN (MrSw)",
        "one vector, InfoNCE",
        "one vector",
    )
    if name in variants
]
figure = figures.recall_bars(
    {"TERAN, this run": [metrics.as_dict()]} | {name: runs_of(record, name) for name in chosen},
    references,
    metrics=("i2t_r1", "t2i_r1", "t2i_r5", "t2i_r10"),
    title="Compare first, pool later: the same encoders, with and without pooling them to one vector",
)
show(
    figure,
    alt=(
        "Bars of recall: TERAN far above the models with one vector, with a dot for each "
        "seed and lines for chance and ceiling."
    ),
)

# %% [markdown]
# How to read this (scenes, quick profile; a difference counts when it is larger than the spread of the seeds):
#
# - **TERAN against one vector**, equal encoders, data and epochs: text to image R@1 64.9 to 65.2 against 39.9 to 40.5 (InfoNCE, the better loss for one vector), image to text 93.4 to 93.8 against 64.7 to 65.6, rSum 538 to 539 against 440 to 442.
# - **One vector with TERAN's own loss** is no fair rival: 36.8 and 37.0 with two seeds, and the third collapsed (12.2; its loss ends at 0.40, two margins), as in lesson 01. Alignment scores did not collapse with any seed.
# - **The ceiling** of text to image is 89.3, not 100: some captions are true of several pictures.

# %%
lesson.clock(28)

# %% [markdown]
# ## 7. What has emerged
#
# Look at the alignment matrix of a test picture and one of its captions.

# %%
align = aligner(test, images, captions, tokenizer)
picked = int(
    np.argmax(
        np.bincount(test.image_of_caption[(scores.argmax(0).numpy() == test.image_of_caption)])
    )
)
caption = int(np.flatnonzero(test.image_of_caption == picked)[0])
pieces, matrix = align(picked, caption)
figure = figures.alignment_heatmap(
    matrix, pieces, "Framed: the region that each word aligns with best"
)
show(
    figure,
    alt=(
        f"Heat map of regions by words for “{test.captions[caption]}”, the best region of "
        "each word framed."
    ),
)

# %%
explorer(
    test,
    align,
    images=[picked, *(i for i in range(7) if i != picked)],
    title="Point at a word: which regions does it align with?",
)

# %% [markdown]
# In a live notebook this is an explorer: choose a picture and a caption (also one of *another* picture), and point at a word. Pictures convince, but they are picked. Where the truth is known, count.
#
# **Pointing accuracy**: for every word that speaks of an object (*red*, *star*, *striped*), does the region with the highest alignment show that object?

# %% [markdown] exercise="pointing" difficulty=2 minutes=7 points=2
# ### Your turn: pointing accuracy
#
# Write `pointing(alignments, region_mask, right)`. Row $q$ of `alignments` $(Q, R)$ holds one question: a word's alignment with each region of its picture. `right[q, r]` is True where region $r$ shows what the word speaks of. Return the
# percentage of questions whose best real region is right. A wrong region that is level with the best right one makes it a miss.
#
# <details><summary>Help 1: the idea</summary>
#
# Compare two maxima: the best over the right regions, and the best over the real regions that are not right. Hit if the first is larger.
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# `alignments.masked_fill(~(right & region_mask), -torch.inf).amax(dim=1)` is the first. For the second, the mask is `~right & region_mask`. If a question has no wrong region, its maximum is $-\infty$, and the comparison still holds.
# </details>


# %% solution="pointing"
def pointing(alignments, region_mask, right):
    """Percent of questions that point at a right region: (Q,R), (Q,R) bool, (Q,R) bool -> float.

    For [[.9, .2], [.1, .3]], all real, right [[True, False], [True, False]]: 50.0.
    """
    ### BEGIN SOLUTION
    best_right = alignments.masked_fill(~(right & region_mask), -torch.inf).amax(dim=1)
    best_wrong = alignments.masked_fill(~(~right & region_mask), -torch.inf).amax(dim=1)
    return 100 * float((best_right > best_wrong).double().mean())
    ### END SOLUTION


# %% check="pointing"
pointing = check("pointing", pointing)

# %% [markdown]
# In the library: `itr_lib.evaluation.pointing.pointing_accuracy`, which also counts near ties (closer than 1e-6) as misses.

# %% tags=["key-figure"]
questions = questions_of(splits, tokenizer)
if questions is not None:
    pointed = pointing_accuracy(*images, *captions, test.image_of_caption, questions)
    told = {"TERAN, this run": pointed}
    if test.truth is not None:
        told["detector ceiling"] = detector_ceiling(test, questions)
    else:
        told["largest box"] = largest_box_accuracy(
            test.boxes, test.region_mask, test.image_of_caption, questions
        )
    kinds = [kind for kind in pointed if kind not in ("all", "chance")]
    print(f"{len(questions):,} questions; chance {pointed['chance']:.1f} %")
    for name, values in told.items():
        print(
            f"{name:17s} all {values['all']:.1f}",
            *(f"{kind} {values[kind]:.1f}" for kind in kinds),
            sep="   ",
        )
    lesson.record(pointing=pointed["all"])
else:
    print(
        "Nobody knows which region a word means here: run this on the scenes, or with data='entities'."
    )

# %% [markdown]
# *Chance* points at a region by lot. The *detector ceiling* is a reader who understands the caption and sees through the same imperfect detector: it points where shape, colour and texture together are most probable.
#
# **Shape and colour are found, at the ceiling**: the pressure to tell 128 pairs apart was enough. Texture depends on the run: 53 to 80 % in the recorded ones, 93 % in the one above, which is the first of them over again with two threads instead of one. Its recall is the same.
#
# **Size is another matter.** Far *below* chance is not ignorance, it is a habit. Where do these words look?


# %%
if test.truth is not None:
    A = question_alignments(*images, *captions, test.image_of_caption, questions)
    best = A.argmax(axis=1)
    right = questions.right[np.arange(len(best)), best]
    on_object = test.truth.region_object[test.image_of_caption[questions.caption], best] >= 0
    looks_at = {"right object": right, "another": on_object & ~right, "background": ~on_object}
    for kind in ("shape", "colour", "texture", "size"):
        of_kind = questions.kind == kind
        shares = (
            f"{name} {100 * here[of_kind].mean():5.1f} %" for name, here in looks_at.items()
        )
        print(f"{kind:8s}", *shares, sep="   ")

# %% [markdown]
# Nearly all words of size look at plain background. A likely reason: the maximum must land somewhere, and a word that tells little apart does least harm on something that every picture has, where it adds the same to every score. *Large* and *small* tell pictures apart less than shape and colour do, and the score never asks a single word to
# be right. Seeds whose words of texture point rightly in 53 and in 80 % of cases have the same recall. So an alignment map shows what the *score* uses. It is no explanation of what the words mean.
#
# ## 8. Twins, again

# %% tags=["key-figure"]
if splits.probes:
    for kind, probe in splits.probes.items():
        choices = pair_accuracy(score(model, tokenizer, probe, device=lesson.device))
        print(
            f"{kind:9s} {choices['image']:5.1f} % of captions prefer their own picture", end=""
        )
        print(
            f", {choices['group']:5.1f} % of pairs are right in all four choices (chance 16.7)"
        )
        for name in ("TERAN (MrSw)", "one vector, InfoNCE"):
            if name in variants:
                others = [run[kind] for run in runs_of(record, name)]
                print(f"          {name}, recorded: {min(others):.1f} to {max(others):.1f}")
        lesson.record(**{kind: choices["image"]})
    swaps = splits.probes["swaps"]
    figure = figures.pair_figure(
        swaps,
        score(model, tokenizer, swaps, device=lesson.device),
        0,
        "The twins of lesson 01: ▸ marks the picture that each caption prefers",
    )
    show(figure, alt="Two twin pictures with the model's scores of both captions under each.")

# %% [markdown]
# Lesson 01 measured 49.2 to 49.8 % on the swaps; one vector from this lesson's encoders is at 49.0 to 49.6 (InfoNCE). TERAN: 97.6 to 98.4 % (three seeds), and more than nine pairs in ten are right in all four choices. The encoders are the same, and no batch ever asked for it on purpose: a random batch
# hardly ever holds a twin. What changed is that *red*, having read *star* next to it, looks for **one region** that is both. (Why are replacements a little harder than swaps now, 94.4 to 95.0 %? A likely reason: a swap changes two objects, and each gives it away; a replacement changes one.)
#
# ## 9. A sum over words, and who pays for it
#
# MrSw adds over words, so long captions collect more than short ones. For a caption that looks for its picture, this does not matter: it competes with nobody else's length. For a *picture* that looks for its caption it does. The same trained model, pooled in four
# ways at test time:

# %%
length = captions.mask.sum(dim=1).cpu().numpy()
with torch.no_grad():
    for name, how in TERAN_POOLING.items():
        pooled = alignment_scores(
            images.vectors, captions.vectors, images.mask, captions.mask, **how
        ).cpu()
        again = retrieval_metrics(pooled, test.image_of_caption)
        top = length[pooled.argmax(dim=1).numpy()].mean()
        print(
            f"{name:7s} i2t R@1 {again.i2t_r1:5.1f}   t2i R@1 {again.t2i_r1:5.1f}   "
            f"words in the best caption {top:4.1f} (mean of all {length.mean():.1f})"
        )

# %%
lesson.clock(12)

# %% [markdown]
# Text to image is the same for MrSw and MrAVGw, as it must be: one caption, one length. Image to text is not. Dividing by the length ruins it here, from 93.0 to 35.8 %, and the best captions become the shortest ones. Why? A long caption that fits is better *evidence* than a short one that fits: many pictures have a red star, few have all of
# what seventeen words say. The sum knows that, the mean forgets it. (This model was trained with sums. One that is trained with means may find other cosines.) MwSr and Symm let every box of background have its say.
#
# ## 10. Both sides stay separate: the index, and the scan
#
# Some models let words and regions attend to each other *before* the score (cross-attention). Then nothing can be computed in advance: a million pictures mean a million forward passes for each query. TERAN's two branches meet only in dot products. So
# every picture is encoded once, offline, and kept. What does it cost to keep, and to search?

# %%
per_image = images.mask.sum().item() / len(test) * images.vectors.shape[-1] * 4
print(
    f"encoding  {1e3 * encoded / (len(test) + len(test.captions)):.2f} ms an image or caption (offline)"
)
print(
    f"index     {per_image / 1024:.0f} KiB an image in float32; one vector would take {images.vectors.shape[-1] * 4 / 1024:.1f} KiB"
)
with torch.no_grad():
    one = images.vectors.mean(dim=1), captions.vectors.mean(dim=1)
    dot = best_time(lambda: one[0] @ one[1].T)
print(
    f"full scan {1e6 * scanned / scores.numel():.2f} µs a pair, {scanned / dot:.0f} times one dot product a pair"
)
print(f"one query against a million pictures: {1e6 * scanned / scores.numel():.1f} s")

# %% [markdown]
# That is the price of alignment: $R \cdot W$ dot products a pair instead of one. Fine for thousands of pictures, not for a million. Lesson 05 pays it for a shortlist only. Numbers of 16 bits (*bfloat16*: the range of float32 with 8 bits of precision) can help, where the hardware multiplies them faster. Does the ranking survive?

# %%
with torch.no_grad():
    low = [tensor.bfloat16() for tensor in (images.vectors, captions.vectors[::10])]
    halved = alignment_scores(*low, images.mask, captions.mask[::10]).cpu()
same = (halved.argmax(dim=0) == scores[:, ::10].argmax(dim=0)).double().mean()
print(f"bfloat16: {100 * same:.1f} % of {halved.shape[1]} captions keep their first picture")
print(f"faster here: {str(fastest_dtype(lesson.device)).removeprefix('torch.')}")

# %% [markdown]
# ## 11. Near misses: NDCG
#
# R@K counts one right answer. NDCG (lesson 00) asks whether what stands above and below it fits too. TERAN's paper takes the relevance of a picture to a caption from **ROUGE-L**: the longest common subsequence of words between the caption and the picture's five
# captions. It also uses SPICE, which parses captions into scene graphs and compares those. For scenes no parser is needed: we know the graphs. (A caption is one of its own picture's five, so that picture has relevance 1.)

# %%
asking = np.random.default_rng(seed).permutation(len(test.captions))[:1000]
relevance = {"rouge": torch.from_numpy(rouge_relevance(test, asking))}
if test.truth is not None:
    graphs = graph_relevance(test.truth.scenes, test.truth.captions, test.image_of_caption)
    relevance["graph"] = torch.from_numpy(graphs.T[asking])
by_lot = torch.rand(len(asking), len(test), generator=torch.Generator().manual_seed(seed))
for name, grades in relevance.items():
    ours, lot = ndcg(scores.T[asking], grades), ndcg(by_lot, grades)
    print(f"NDCG@25, {name:6s}  TERAN {ours:.3f}   random order {lot:.3f}")
    lesson.record(**{f"ndcg_{name}": ours})
for name in ("TERAN (MrSw)", "one vector, InfoNCE"):
    if name in variants and "ndcg_graph" in runs_of(record, name)[0]:
        values = [run["ndcg_graph"] for run in runs_of(record, name)]
        print(
            f"recorded, scene graph, all captions: {name} {min(values):.3f} to {max(values):.3f}"
        )

# %% [markdown]
# Over all captions and three seeds: NDCG@25 by scene graph 0.766 to 0.772 with TERAN, 0.725 to 0.727 with one vector. The gap is smaller than in R@1: one vector, too, finds pictures with the right things in them; it only guesses which object has which colour. And mind the scale: a random order has 0.19 by scene graph but 0.56 by ROUGE-L, because
# all captions share words such as *a picture with*. A number is only as good as its zero.
#
# ## 12. On photographs
#
# Flickr30k Entities holds boxes and phrases for Flickr8k's photographs too. With its boxes as regions and nothing but hand-made features for each crop (colours and edges; no pretrained network at all), the same model was trained on
# 5,400 photographs (600 more chose the epoch), from captions only, and asked to point.

# %%
photographs = recorded("02_fine_grained_alignment", "entities")
if photographs:
    print(photographs["command"])
    runs = runs_of(photographs, "TERAN (MrSw)")
    for key, name in (
        ("pointing_all", "pointing accuracy"),
        ("pointing_chance", "chance"),
        ("pointing_largest_box", "the largest box"),
        ("t2i_r1", "text to image R@1"),
        ("t2i_r10", "text to image R@10"),
    ):
        values = [run[key] for run in runs]
        print(f"{name:18s} {min(values):.1f} to {max(values):.1f}")

# %% [markdown]
# Three seeds, 13,119 phrases of 1,000 photographs that it never saw: 42.3 to 45.0 % of phrases point at a right box. By lot it would be 29.7 %; always pointing at the largest box, which is where photographers put what they speak of, gives 34.7 %. So words find regions on photographs, too, from captions alone and
# features that know only colours and edges: animals (54 to 60 %) and clothing (50 to 53 %) best, which have colours; people (39 to 46 %) little better than the largest box does (38 %).
#
# Retrieval with such features is poor: 1.5 to 2.0 % of captions find their photograph among 1,000 (chance 0.1), and the training loss ends at 0.40 to 0.41, two margins, the sign of lesson 01 that the hardest negatives score like the positive. What a good region feature is worth, you see by comparing with the published 56.5 (TERAN on Flickr30k,
# features of a detector trained on Visual Genome).
#
# ## What you should have seen
#
# Scenes, quick profile, 1,000 test images with five captions each; three seeds, lowest to highest.
#
# | what | text to image R@1 | image to text R@1 | swapped twins | pointing: shape, colour |
# | --- | --- | --- | --- | --- |
# | chance | 0.1 | 0.1 | 50 | 11 |
# | one vector, hinge | 12.2 to 37.0 (one collapsed) | 12.7 to 67.3 | 48.8 to 50.6 | |
# | one vector, InfoNCE | 39.9 to 40.5 | 64.7 to 65.6 | 49.0 to 49.6 | |
# | TERAN (MrSw), hinge | 64.9 to 65.2 | 93.4 to 93.8 | 97.6 to 98.4 | 93.0 to 94.8 |
# | ceiling | 89.3 | 100 | 100 | 94 to 95 |
#
# On photographs with hand-made features: 42.3 to 45.0 % of phrases point right (chance 29.7, the largest box 34.7).
#
# ## Three questions
#
# <details><summary>Why does TERAN leave <code>[CLS]</code> out of the alignment?</summary>
#
# `[CLS]` knows the whole sentence, so it has no region of its own to find; a likely effect is that it adds much the same to all scores and blurs what the words say. What a whole picture and a whole sentence have to say to each other is a score of
# its own: lesson 05.
# </details>
# <details><summary>You train with MwSr. A picture has 36 regions, and six of them show the two objects that its caption speaks of. What do the other 30 regions do to the score?</summary>
#
# Each takes its best word, however bad. They add noise to every pair, and the loss pushes background regions towards some word of their captions. MrSw asks only what is *said* to be there; what is there and not said costs nothing.
# </details>
# <details><summary>All your captions are padded to 60 words because one is that long. What does that cost with <code>alignment_scores</code>, and what with the four-axis tensor?</summary>
#
# Packed, padding is never multiplied: nothing but the memory of the padded input. With four axes every pair pays for 60 words: the cost grows with the longest caption, not with the mean.
# </details>
#
# ## Further reading
#
# - N. Messina, G. Amato, A. Esuli, F. Falchi, C. Gennaro, S. Marchand-Maillet. *Fine-grained visual textual alignment for cross-modal retrieval using transformer encoders.* ACM TOMM 17(4), 2021. TERAN.
# - A. Karpathy, L. Fei-Fei. *Deep visual-semantic alignments for generating image descriptions.* CVPR 2015. MrSw, before transformers.
# - K.-H. Lee, X. Chen, G. Hua, H. Hu, X. He. *Stacked cross attention for image-text matching.* ECCV 2018. SCAN: lesson 03.
# - B. Plummer et al. *Flickr30k Entities.* IJCV 123, 2017. Phrases and boxes.
# - J. Zhang et al. *Top-down neural attention by excitation backprop.* IJCV 126, 2018. The pointing game.
# - C.-Y. Lin. *ROUGE: a package for automatic evaluation of summaries.* 2004.
# - L. Yao et al. *FILIP: fine-grained interactive language-image pre-training.* ICLR 2022. The same idea at the scale of CLIP.

# %%
lesson.clock(0)
lesson.finish()
