# %% [markdown] run_minutes=5
# # 02 · Fine-grained alignment: words and regions
#
# Lesson 01 pressed a picture into one vector and a caption into another. It found the right picture often. But it could not tell *a red star and a blue square* from
# *a blue star and a red square*: on such twins VSE++ chose the right picture in {{01_global_embeddings/swaps: VSE++ (hardest, GPO)}} % of cases, no better than a coin. One vector does not say which colour belongs to which shape.
#
# TERAN (2021) does not pool. It keeps **one vector for each region and one for each word**, and makes the score from all their dot products. Nobody tells it which word belongs to which
# region. It finds out, and in this lesson you can look at what it found.
#
# **At the end you can**
#
# - write the [alignment matrix](../docs/GLOSSARY.md#alignment-matrix) of a picture and a caption, and TERAN's score, without letting padding into a maximum;
# - make that score cheap enough to train with, and train from whole captions only;
# - read a [heat map](../docs/GLOSSARY.md#heat-map) of words and regions by rules, and measure whether words point at the right regions;
# - say what fine-grained scoring costs, and score a test set in blocks that fit into memory.
#
# **Time** about {{minutes}} minutes with all 7 exercises. **You need** lessons 00 and 01.

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
import numpy as np
import torch

from itr_lib import evaluation, figures, inference, objectives
from itr_lib.checks import check, library
from itr_lib.data import iou, pair_batch, questions_of, tokenise
from itr_lib.data.scenes import graph_relevance
from itr_lib.lessons import open_lesson, recipes, timing

# %%
lesson = open_lesson(
    "02_fine_grained_alignment", profile=profile, device=device, seed=seed, data=data, root=root
)
splits, tokenizer = lesson.load()
test = splits.test

# %% [markdown]
# ## 1. Why one vector binds badly
#
# Suppose a region's vector is a sum: *red* + *star*. Pool two regions by their mean, and the picture becomes a sum of four parts. Here it is with vectors of four numbers.

# %% tags=["nbval-check-output"]
red, blue, star, square = torch.eye(4)
picture = torch.stack([red + star, blue + square])  # two regions
twin = torch.stack([blue + star, red + square])
print("pooled, picture:", picture.mean(0).tolist())
print("pooled, twin:   ", twin.mean(0).tolist())
word = red + star  # what “red star” asks for
print("best region, picture:", (picture @ word).max().item())
print("best region, twin:   ", (twin @ word).max().item())

# %% [markdown]
# The pooled vectors are equal, so no loss can tell the two pictures apart. Compared *before* pooling, they differ: the picture has a region that is both red
# and a star, the twin has none. That is the whole idea of this lesson: **compare first, pool later**.
#
# ## 2. Two branches, one matrix
#
# TERAN has two branches. The region branch passes features and boxes through two linear layers and a transformer layer, so that regions see each other. The word branch is BERT and a layer
# of the same kind. At the end every region and every word is a vector of length 1 in **one common space**.
#
# How does a region know *where* it is? Its box enters as five numbers: two corners and the area, as shares of the picture. The lower half of any picture is (0, 0.5, 1, 1, 0.5).

# %%
recipe = recipes.teran(profile, data, seed)
model = recipe.build(splits.train, tokenizer).to(lesson.device)
tokens = tokenise(tokenizer, splits.train.captions)
drawn = np.random.default_rng(seed).permutation(len(tokens.ids))[: recipe.training.batch_size]
batch = pair_batch(splits.train, tokens, drawn, lesson.device)
with torch.no_grad():
    images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)
for name, kept in (("regions", images), ("words", captions)):
    real = kept.mask.sum(dim=1)[:3].tolist()
    print(f"{name:8s}{tuple(kept.vectors.shape)} real: {real} …")
print("caption 0:", *tokenizer.convert_ids_to_tokens(batch.captions.ids[0]))

# %% [markdown]
# Pictures have different numbers of regions and captions different numbers of words. Both are padded to one width, and a **mask** says what is real. BERT puts a token `[CLS]` before every caption and `[SEP]` behind it.
# Neither is a word, so the mask is False there, as it is at padding.
#
# ### The alignment matrix
#
# For a picture with regions $v_r$ and a caption with words $w_t$, the **alignment matrix** holds the cosine of every region with every word:
#
# $$ A_{rt} = \frac{v_r \cdot w_t}{\lVert v_r \rVert \, \lVert w_t \rVert} $$
#
# A batch has one such matrix for *each picture with each caption*: four axes. First, plain dot products of two regions and three words:

# %% tags=["nbval-check-output"]
v = torch.tensor([[2.0, 0.0], [3.0, 4.0]])  # two regions
w = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-3.0, 4.0]])  # three words
print(v @ w.T)

# %% [markdown] exercise="alignments" difficulty=2 minutes=8 points=2
# ### Your turn: every region with every word
#
# Write `alignments(regions, words)`: from $(N, R, D)$ and $(M, W, D)$, vectors of any length (0.05 and more, or 0), to the cosines $(N, M, R, W)$. A vector of zeros, as padding often is, has the cosine 0 with everything. Its gradient must not be NaN, since one NaN in training makes all weights NaN.
#
# <details><summary>Help 1: the idea</summary>
#
# Bring every vector to length 1 first. Then a cosine is a dot product.
# </details>
# <details><summary>Help 2: the lengths</summary>
#
# `torch.nn.functional.normalize(x, dim=-1)` divides each vector by its own length, and leaves a zero vector zero. Do not forget its `dim`.
# </details>
# <details><summary>Help 3: the axes</summary>
#
# `torch.einsum("ab,cb->ac", x, y)` multiplies every row of x with every row of y: b is missing after the arrow, so it is summed over. You have four letters to keep, and one to sum over.
# </details>


# %% solution="alignments"
def alignments(regions, words):
    """Cosines of all regions with all words: (N, R, D), (M, W, D) -> (N, M, R, W).

    For the v and w above, alignments(v[None], w[None])[0, 0] is
    [[0, 1, -0.6], [0.8, 0.6, 0.28]].
    """
    ### BEGIN SOLUTION
    regions = torch.nn.functional.normalize(regions, dim=-1)
    words = torch.nn.functional.normalize(words, dim=-1)
    return torch.einsum("nrd,mwd->nmrw", regions, words)
    ### END SOLUTION


# %% check="alignments"
alignments = check("alignments", alignments)

# %% [markdown]
# ## 3. From a matrix to a score
#
# A score should be high when every word finds its place in the picture. So each word takes its best region, and these best cosines are added up. TERAN calls this **[MrSw](../docs/GLOSSARY.md#max-over-regions-sum-over-words)**: *max over regions, sum over words*.
#
# $$ S = \sum_t \max_r A_{rt} $$

# %%
lesson.show(
    figures.pooling_diagram(),
    alt="Two small alignment matrices. Left: each column's largest entry is marked and the marked "
    "entries are added: MrSw. Right: each row's largest entry: MwSr.",
)

# %% [markdown]
# The mirror, MwSr, lets each region take its best word. It returns in section 10.
#
# **The trap is padding.** TERAN's released code fills padded entries of $A$ with 0, and then takes the maximum. That is fine as long as some real cosine is positive. But in a wrong picture *every* real cosine of a word may be negative, and
# then padding wins with its 0. The sum has a trap of its own: padded words must add nothing.

# %% tags=["nbval-check-output"]
# Region 2 and word 2 are padding.
A = torch.tensor([[0.9, -0.5, 0.0], [0.1, -0.3, 0.0], [0.0, 0.0, 0.0]])
print("best with padding:   ", A.amax(dim=0))
print("best without padding:", A[:2, :2].amax(dim=0))

# %% [markdown] exercise="mrsw" difficulty=3 minutes=12 points=3
# ### Your turn: MrSw, without the padding
#
# Write `mrsw(alignments, region_mask, word_mask)`: from $(N, M, R, W)$ and the masks $(N, R)$ and $(M, W)$, True where real, to scores $(N, M)$. Padded places hold any finite numbers, which must not matter, and real entries may be any numbers, however far below 0.
# Every picture has a real region. A caption without a real word scores 0.
#
# <details><summary>Help 1: the idea</summary>
#
# Two steps, with two different fillings. Before a maximum, padding must lose against any number. Before a sum, it must add nothing.
# </details>
# <details><summary>Help 2: the axes</summary>
#
# `region_mask[:, None, :, None]` has the shape $(N, 1, R, 1)$ and fits $(N, M, R, W)$. After the maximum over regions you have $(N, M, W)$, which `word_mask[None]` fits.
# </details>
# <details><summary>Help 3: the pieces</summary>
#
# `x.masked_fill(mask, value)` fills where the mask is **True**. Which value loses against every number? And mind that minus infinity times 0 is NaN.
# </details>


# %% solution="mrsw"
def mrsw(alignments, region_mask, word_mask):
    """Max over real regions, sum over real words: (N,M,R,W), (N,R) bool, (M,W) bool -> (N,M).

    For the A above with regions 0 and 1 and words 0 and 1 real: 0.9 - 0.3 = 0.6.
    """
    ### BEGIN SOLUTION
    best = alignments.masked_fill(~region_mask[:, None, :, None], -torch.inf).amax(dim=2)
    return best.masked_fill(~word_mask[None], 0).sum(dim=-1)
    ### END SOLUTION


# %% check="mrsw"
mrsw = check("mrsw", mrsw)

# %% [markdown]
# ## 4. Packed: the price of one matrix product
#
# The four-axis tensor is easy to read, but expensive. It multiplies padding, and then every mask and every maximum reads all of it again. For one training batch:

# %%
padded = images.mask.numel() * captions.mask.numel()
real = int(images.mask.sum()) * int(captions.mask.sum())
lesson.say(
    f"{padded:,} dot products with padding, {real:,} without: {padded / real:.1f} times as many."
)

# %% [markdown]
# The remedy is to **[pack](../docs/GLOSSARY.md#packing)**. Write the regions of all pictures one under the other, without gaps, and the words of all captions likewise. `vectors[mask]` does that. Now all real dot products are *one* matrix product. Instead of masks
# we need only **counts**: how many rows belong to picture 0, to picture 1, and so on.
#
# $$ \begin{pmatrix} \text{regions of picture 0} \\ \text{regions of picture 1} \\ \vdots \end{pmatrix} \begin{pmatrix} \text{words of caption 0} & \text{words of caption 1} & \cdots \end{pmatrix} $$

# %% tags=["nbval-check-output"]
mask = torch.tensor([[True, False, True], [False, True, False]])
print(torch.arange(6).reshape(2, 3)[mask], "counts", mask.sum(dim=1).tolist())

# %% [markdown] exercise="packed-mrsw" difficulty=4 minutes=15 points=4
# ### Your turn: packed MrSw
#
# Write `packed_mrsw(regions, region_counts, words, word_counts)`. `regions` is $(P, D)$, the regions of all $N$ pictures one after the other, and `region_counts` a list of $N$ numbers that add up to $P$. `words` $(T, D)$ and `word_counts` do the same for $M$ captions.
# Return the MrSw scores $(N, M)$, made from plain dot products: the vectors are not normalised here. Every picture has a region. A caption may have no word, and then scores 0.
#
# <details><summary>Help 1: the idea</summary>
#
# One product gives $(P, T)$. Its rows fall into $N$ groups, its columns into $M$. Take a maximum over each group of rows, then a sum over each group of columns.
# </details>
# <details><summary>Help 2: with pieces</summary>
#
# `x.split([2, 1], dim=0)` cuts three rows into pieces of 2 and 1. A list of results becomes a tensor with `torch.stack`. Both steps can be done this way.
# </details>
# <details><summary>Help 3: without a loop</summary>
#
# `torch.repeat_interleave(torch.arange(n), counts)` says which picture each row belongs to. With that, `scatter_reduce` takes maxima (begin with $-\infty$) and `index_add` adds up.
# </details>


# %% solution="packed-mrsw"
def packed_mrsw(regions, region_counts, words, word_counts):
    """MrSw without padding: (P, D), list of N, (T, D), list of M -> (N, M).

    For regions [[1, 0], [0.6, 0.8], [0, 1]], 2 and 1 a picture, and words
    [[0, 1], [1, 0], [-0.6, 0.8]], 2 and 1 a caption: [[1.8, 0.28], [1, 0.8]].
    """
    ### BEGIN SOLUTION
    dots = regions @ words.T  # (P, T)
    best = torch.stack(
        [some.amax(dim=0) for some in dots.split(list(region_counts), dim=0)]
    )  # (N, T)
    return torch.stack(
        [some.sum(dim=1) for some in best.split(list(word_counts), dim=1)], dim=1
    )
    ### END SOLUTION


# %% check="packed-mrsw"
packed_mrsw = check("packed-mrsw", packed_mrsw)

# %% [markdown]
# Now you have the same scores in two ways. What does each cost on the batch from above, forward and backward?


# %%
def four_axes(images, captions):
    return mrsw(alignments(images.vectors, captions.vectors), images.mask, captions.mask)


def packed(images, captions):
    regions, words = images.vectors[images.mask], captions.vectors[captions.mask]
    counts = [tokens.mask.sum(dim=1).tolist() for tokens in (images, captions)]
    return packed_mrsw(regions, counts[0], words, counts[1])


ways = {
    name: lambda v, w, way=way: way(images._replace(vectors=v), captions._replace(vectors=w))
    for name, way in {"four axes": four_axes, "packed": packed, "itr_lib": model.scores}.items()
}
difference = (four_axes(images, captions) - packed(images, captions)).abs().max()
print(f"largest difference between your two: {difference:.0e}")
timing.bill(ways, (images.vectors, captions.vectors), repeats=2)

# %% [markdown]
# The library's function, `itr_lib.similarity.alignment_scores`, packs as you do. It also puts sets of equal size side by side, and works in blocks, so that a maximum is taken while its numbers are still in the processor's cache.
#
# ## 5. Training: whole captions, nothing else
#
# Now your packed score trains the model. The loss is lesson 01's: the hinge, with all negatives in the first epoch and the hardest afterwards. The only supervision is that *this caption belongs to this picture*. No word is ever told its region.


# %%
def objective(model, batch, epoch):
    images = model.encode_images(batch.images)
    captions = model.encode_captions(batch.captions)
    loss = objectives.triplet_loss(
        packed(images, captions),
        margin=recipe.objective.margin,
        negatives="all" if epoch < recipe.objective.warmup_epochs else "hardest",
        same_image=batch.same_image,
    )
    return loss / len(batch.image_ids)


history = lesson.train(model, objective, recipe.training, label="TERAN")

# %%
title = "TERAN in training: its loss, and recall on validation pictures"
lesson.show(figures.training_curves({"TERAN": history.epochs}, title))

# %% [markdown]
# ## 6. What comparing first gains
#
# What is it worth to keep all the vectors? Here is the model on the test set, beside recorded runs that pool the same tokens to one vector.

# %% tags=["key-figure"]
images, captions = inference.encode(model, tokenizer, test, device=lesson.device)
scores, metrics = lesson.test(model)
lesson.record(t2i_r1=metrics.t2i_r1, i2t_r1=metrics.i2t_r1, rsum=metrics.rsum)
lesson.compare(
    {
        "TERAN, this run": metrics,
        "TERAN, recorded": "TERAN (MrSw)",
        "one vector, InfoNCE": "one vector, InfoNCE",
        "one vector, hinge": "one vector",
    },
    metrics=("i2t_r1", "t2i_r1", "t2i_r10", "rsum"),
    title="The same encoders, with and without pooling to one vector",
)

# %% [markdown]
# How to read this:
#
# - **TERAN against one vector.** Encoders, data and epochs are equal. TERAN is far ahead in both directions, whichever of the two losses trains the one vector.
# - **One vector with the hinge**, TERAN's own loss, nearly collapsed with one seed of three (lesson 01 shows how that comes about). TERAN did not with any.
# - **The ceiling** of text to image is below 100: some captions are true of several pictures.
#
# ### Twins, again
#
# The same test as in lesson 01, with your `twin_choices` if you kept one: does a caption prefer its own picture to that picture's twin? In *swaps* two objects exchange an attribute. In *replaces* one attribute is replaced by another.

# %% tags=["key-figure"]
twin_choices, probes = lesson.answer("twin-choices"), splits.probes
twins = {
    kind: inference.score(model, tokenizer, probe, device=lesson.device)
    for kind, probe in probes.items()
}
chosen = {kind: float(twin_choices(found)) for kind, found in twins.items()}
if probes:
    lesson.record(**chosen)
    rivals = {"TERAN, recorded": "TERAN (MrSw)", "one vector, InfoNCE": "one vector, InfoNCE"}
    title = "Twins: who can tell which object has which colour?"
    lesson.compare({"TERAN, this run": chosen, **rivals}, metrics=tuple(chosen), title=title)
    title = "The twins of lesson 01: which picture does each caption prefer?"
    lesson.show(figures.pair_figure(probes["swaps"], twins["swaps"], 0, title))
else:
    print("Nobody made twins of photographs: run this section on the scenes.")

# %% [markdown]
# On swaps one vector is as good as a coin. TERAN, with the same encoders, is nearly always right, though training never asked for that: a random batch hardly ever holds a twin. What has changed is that *red*, having read *star* next to it, looks for **one region** that is both.
#
# ### Near misses: NDCG
#
# R@K counts one right answer. NDCG (lesson 00) asks whether what stands above and below it fits too. For that it needs the relevance of every picture to a caption. TERAN's paper takes it from **ROUGE-L**: the longest sequence of words that the caption and one of the picture's captions share, in the same order, gaps allowed. It also compares scene graphs (objects, attributes and relations), which we know for scenes.

# %%
ndcg = lesson.answer("ndcg")
asking = np.random.default_rng(seed).permutation(len(test.captions))[:1000]
relevance = {"rouge": evaluation.rouge_relevance(test, asking)}
if test.truth is not None:
    graphs = graph_relevance(test.truth.scenes, test.truth.captions, test.image_of_caption)
    relevance["graph"] = graphs.T[asking]
lot = torch.rand(len(asking), len(test), generator=torch.Generator().manual_seed(seed))
for name, grades in relevance.items():
    grades = torch.from_numpy(grades).float()
    ours, random = (float(ndcg(ranked, grades, 25)) for ranked in (scores.T[asking], lot))
    print(f"NDCG@25, {name:6s} TERAN {ours:.3f}   random order {random:.3f}")
    lesson.record(**{f"ndcg_{name}": ours})

# %% [markdown]
# Recorded over all captions, by scene graph: {{ndcg_graph: TERAN (MrSw)}} with TERAN, {{ndcg_graph: one vector, InfoNCE}} with one vector. The gap is smaller than in R@1. One vector, too, finds pictures with the right things in them; it only guesses which object has which colour.
#
# Mind the scale, too. By ROUGE-L even a random order looks good, because all captions share words such as *a* and *with*. So read a score from the level of a random order, not from 0.
#
# ## 7. Reading a heat map
#
# Drawn in colours, an alignment matrix is a **heat map**: a row for each region, a column for each word. It is easy to see in it what you hope to see. Three rules keep a reader honest.
#
# 1. **Read columns.** The question is where a *word* goes. MrSw never asks where a region goes.
# 2. **Some region always wins.** A word points only if its best entry reaches a *floor* that you set beforehand. Otherwise it points nowhere.
# 3. **Two bright entries may be one thing.** A detector often draws several boxes around one star. Compare boxes by their **[intersection over union](../docs/GLOSSARY.md#intersection-over-union)** (IoU): the area that they share, divided by the area that they cover together. From 0.5 on we say that they show the same thing.
#    Only a bright entry *elsewhere* makes a word ambiguous.
#
# Here is a made-up case of four regions and the words *star*, *square*, *shape*, *hexagon*: first the alignments, then the IoU of every two boxes.

# %% tags=["nbval-check-output"]
made = torch.tensor(
    [[0.8, 0.1, 0.5, 0.1], [0.75, 0.0, 0.3, 0.2], [0.1, 0.6, 0.45, 0.1], [0.0, 0.1, 0.0, 0.15]]
)
overlap = torch.full((4, 4), 0.1).fill_diagonal_(1.0)
overlap[0, 1] = overlap[1, 0] = 0.7
print("alignment, a row a region, a column a word:", made, sep="\n")
print("IoU of every two regions:", overlap, sep="\n")

# %%
title = "Read it by the rules: where does each word point?"
words = ["star", "square", "shape", "hexagon"]
lesson.show(figures.alignment_heatmap(made, words, title, winners=False))

# %% [markdown]
# Read it with your eyes first, with a floor of 0.3: where does each of the four words point?
#
# <details><summary>A reader's answer</summary>
#
# *star* points to region 0. Region 1 is nearly as bright, but overlaps it by 0.7: the same star. *square* points to region 2. *shape* is ambiguous: regions 0 and 2 are about equally bright, and they are two things. *hexagon* points nowhere. So the caption speaks of something that is not there: it is not a caption of this picture.
# </details>

# %% [markdown] exercise="read-heat-map" difficulty=3 minutes=14 points=3
# ### Your turn: a reader in code
#
# Write `read_heat_map(alignment, overlap, floor, gap)`. `alignment` is $(R, W)$, minus infinity where a region is padding, and `overlap` $(R, R)$ holds the IoU of every two boxes. Return a whole number for each word, $(W,)$:
#
# - `-1` where the best entry is below `floor`: the word points nowhere, whatever else comes close;
# - `-2` where another region is less than `gap` below the best entry, and overlaps the best region by less than 0.5: the word is ambiguous;
# - otherwise the number of its best region.
#
# <details><summary>Help 1: the order</summary>
#
# Go word by word. First the best region, then the floor, then the rivals.
# </details>
# <details><summary>Help 2: the rivals</summary>
#
# Rivals are all regions within the gap, not only the runner-up: the runner-up may be a second box on the same thing. The best region overlaps itself by 1, so the overlap rule already leaves it out.
# </details>
# <details><summary>Help 3: all words at once</summary>
#
# `best, where = alignment.max(dim=0)` gives both for every word, and `overlap[:, where]` is $(R, W)$: each region's overlap with each word's best region.
# </details>


# %% solution="read-heat-map"
def read_heat_map(alignment, overlap, floor, gap):
    """What each word points to: (R, W), (R, R), two numbers -> (W,) whole numbers.

    For the two tables above, floor 0.3 and gap 0.1: [0, 2, -2, -1].
    """
    ### BEGIN SOLUTION
    best, where = alignment.max(dim=0)
    rivals = (best - alignment < gap) & (overlap[:, where] < 0.5)  # (R, W)
    places = torch.where(rivals.any(dim=0), -2, where)
    return torch.where(best < floor, -1, places)
    ### END SOLUTION


# %% check="read-heat-map"
read_heat_map = check("read-heat-map", read_heat_map)

# %% [markdown]
# Now a test picture and one of its captions, with your `alignments`:

# %% tags=["key-figure"]
align = figures.aligner(test, images, captions, tokenizer, alignments)
found = scores.argmax(dim=0).numpy() == test.image_of_caption
picked = int(np.bincount(test.image_of_caption, found).argmax())
caption = int(np.flatnonzero(test.image_of_caption == picked)[0])
words, A = align(picked, caption)
title = "Framed: the region that each word aligns with best"
lesson.show(figures.alignment_heatmap(A, words, title))

# %% [markdown]
# Where should the floor be? These cosines are small: the loss asks only that a whole caption gains a margin. So measure. Take the brightest entry of each of many captions with their own pictures. The floor is 0.3 of their mean, and the gap is half the floor.


# %%
def read(data, align, image, caption):
    words, A = align(image, caption)
    overlap = torch.from_numpy(iou(data.boxes[image], data.boxes[image]))
    return words, read_heat_map(torch.from_numpy(A), overlap, floor, gap).tolist()


def told(words, places):
    names = {-1: "nowhere", -2: "several places"}
    return " · ".join(f"{w} → {names.get(p, p)}" for w, p in zip(words, places, strict=True))


some = range(0, len(test.captions), 25)
brightest = np.mean([align(test.image_of_caption[c], c)[1].max() for c in some])
floor, gap = 0.3 * brightest, 0.15 * brightest
print(f"floor {floor:.3f}, gap {gap:.3f}")
other = (picked + 1) % len(test)
for image, whose in ((picked, "its own picture"), (other, "another picture")):
    lesson.say(f"**With {whose}:** {told(*read(test, align, image, caption))}")

# %% [markdown]
# Words such as *a* and *on* need not point anywhere: they add much the same to every score. What tells you something is a word that pointed and now does not. With a wrong picture most such words should go dark. With a *twin* only the exchanged words should:

# %%
if probes:
    swaps = probes["swaps"]
    encoded = inference.encode(model, tokenizer, swaps, device=lesson.device)
    twin_align = figures.aligner(swaps, *encoded, tokenizer, alignments)
    own = twin_align(0, 0)[1]
    scale = (own[np.isfinite(own)].min(), own.max())  # one for both maps
    for image, title in (
        (0, "With its own picture"),
        (1, "With the twin: which words went dark?"),
    ):
        words, A = twin_align(image, 0)
        lesson.show(figures.alignment_heatmap(A, words, title, most=8, scale=scale))
        lesson.say(told(*read(swaps, twin_align, image, 0)))
    lit = np.array(
        [
            [sum(p != -1 for p in read(swaps, twin_align, image, c)[1]) for image in (c, c ^ 1)]
            for c in range(len(swaps.captions))
        ]
    )
    choices = 100 * np.mean((lit[:, 0] > lit[:, 1]) + 0.5 * (lit[:, 0] == lit[:, 1]))
    lesson.say(
        f"A caption has {lit[:, 0].mean():.1f} words that point somewhere in its own picture, and "
        f"{lit[:, 1].mean():.1f} in the twin. Whoever takes the picture in which more words point "
        f"is right for **{choices:.1f} %** of the captions (a draw counts one half)."
    )

# %% [markdown]
# A score says only that something is wrong. Your reading says *which word* is wrong.
#
# In a live notebook the next cell is an explorer: choose a picture and a caption (of another picture, too), and point at a word.

# %%
figures.explorer(
    test,
    align,
    images=[picked, *(i for i in range(min(7, len(test))) if i != picked)],
    title="Point at a word: which regions does it align with?",
)

# %% [markdown]
# ## 8. Pointing accuracy
#
# Examples convince, but they are picked. Where the truth is known, count. A **question** is a word that speaks of an object (*red*, *star*, *striped*), and it is a hit if the region that aligns best shows that object. The share of hits is the **[pointing accuracy](../docs/GLOSSARY.md#pointing-accuracy)**.
#
# Such a number says nothing without its **chance**: how often a random region would be right.

# %% [markdown] exercise="pointing" difficulty=2 minutes=9 points=2
# ### Your turn: hits and chance
#
# Write `pointing(alignments, right)`. Row $q$ of `alignments` $(Q, R)$ holds one question: a word's alignment with each region of its picture, minus infinity where a region is padding. `right[q, r]` is True where region $r$ shows what the word speaks of; in padded places it means nothing. A question without any right region counts, too.
# Return a dictionary with two percentages:
#
# - `"hits"`: questions whose best region is right. A wrong region that is level with the best right one makes it a miss.
# - `"chance"`: the share of right regions among the real ones, as a mean over the questions.
#
# <details><summary>Help 1: level regions</summary>
#
# Of regions that are level, `argmax` takes the first, so their order decides. A model whose alignments are all equal would look good, or bad, by luck. Ask the other way round: is any *wrong* region as high as the highest?
# </details>
# <details><summary>Help 2: chance</summary>
#
# `alignments > -torch.inf` is True at real regions. First each question's share, then the mean of the shares.
# </details>


# %% solution="pointing"
def pointing(alignments, right):
    """Percent of questions that point right, and by lot: (Q, R), (Q, R) bool -> dictionary.

    For [[0.9, 0.2, 0.5], [0.1, 0.3, -inf]] and right [[True, False, False],
    [True, False, True]]: {"hits": 50.0, "chance": 41.67}.
    """
    ### BEGIN SOLUTION
    real = alignments > -torch.inf
    level = alignments == alignments.amax(dim=1, keepdim=True)
    hits = ~(level & ~right).any(dim=1)
    chance = (right & real).sum(dim=1) / real.sum(dim=1)
    return {"hits": 100 * hits.double().mean(), "chance": 100 * chance.double().mean()}
    ### END SOLUTION


# %% check="pointing"
pointing = check("pointing", pointing)

# %% tags=["key-figure"]
questions = questions_of(splits, tokenizer)
if questions is None:
    print("Nobody knows which region a word means here: run this on scenes or entities.")
else:
    asked = (*images, *captions, test.image_of_caption, questions)
    A = torch.from_numpy(evaluation.question_alignments(*asked))
    right = torch.from_numpy(questions.right)
    if test.truth is not None:
        name, best = "ceiling", evaluation.detector_ceiling(test, questions)
    else:
        area = (test.boxes, test.region_mask, test.image_of_caption, questions)
        name, best = "largest box", evaluation.largest_box_accuracy(*area)
    for kind in ("all", *np.unique(questions.kind)):
        of = torch.from_numpy((questions.kind == kind) | (kind == "all"))
        pointed = {key: float(value) for key, value in pointing(A[of], right[of]).items()}
        print(
            f"{kind:10s} {int(of.sum()):6,} questions   hits {pointed['hits']:5.1f}   "
            f"chance {pointed['chance']:5.1f}   {name} {best[str(kind)]:5.1f}"
        )
        if kind == "all":
            lesson.record(pointing=pointed["hits"])

# %% [markdown]
# The *ceiling* is a reader who understands the caption and sees through the same imperfect detector.
#
# **Shape and colour come close to the ceiling.** Telling the pairs of a batch apart was all the teaching it took. Texture depends on the seed: {{pointing_texture: TERAN (MrSw)}} % in the recorded runs, with the same recall. **Size is another matter**: {{pointing_size: TERAN (MrSw)}} %. A rate far *below* chance is not ignorance but a habit. Where do these words look?

# %%
if test.truth is not None:
    best = A.argmax(dim=1).numpy()
    shown = test.truth.region_object[test.image_of_caption[questions.caption], best] >= 0
    hit = questions.right[np.arange(len(best)), best]
    looks_at = {"right object": hit, "another": shown & ~hit, "background": ~shown}
    for kind in ("shape", "colour", "texture", "size"):
        of = questions.kind == kind
        shares = (f"{what} {100 * look[of].mean():5.1f} %" for what, look in looks_at.items())
        print(f"{kind:8s}", *shares, sep="   ")

# %% [markdown]
# At the background. A likely reason: the maximum must land somewhere. A word that tells few pictures apart does least harm on something that every picture has, where it adds the same to every score. So an alignment map shows what the *score* uses. It does not show what the words mean.
#
# ### On photographs
#
# Flickr30k Entities says for photographs which phrase of a caption belongs to which box. With its boxes as regions, and hand-made features of their colours and edges, we trained the same model on 5,400 photographs, from captions only. Then we asked it to point (three seeds, 1,000 photographs that it never saw):
#
# | | percent |
# | --- | --- |
# | chance | {{02_fine_grained_alignment-entities/pointing_chance: TERAN (MrSw)}} |
# | always the largest box | {{02_fine_grained_alignment-entities/pointing_largest_box: TERAN (MrSw)}} |
# | TERAN, all phrases | {{02_fine_grained_alignment-entities/pointing_all: TERAN (MrSw)}} |
# | TERAN, animals | {{02_fine_grained_alignment-entities/pointing_animals: TERAN (MrSw)}} |
# | TERAN, clothing | {{02_fine_grained_alignment-entities/pointing_clothing: TERAN (MrSw)}} |
# | TERAN, people | {{02_fine_grained_alignment-entities/pointing_people: TERAN (MrSw)}} |
#
# So words find regions on photographs, too, more often than chance or the largest box does. Retrieval with such poor features stays poor: {{02_fine_grained_alignment-entities/t2i_r1: TERAN (MrSw)}} % of captions find their photograph among 1,000. TERAN's paper, with the features of a detector trained on photographs, reports 56.5 on Flickr30k.
#
# ## 9. What it costs
#
# TERAN's two branches meet only in dot products. So every picture can be encoded once, in advance, and kept. That is worth a lot: models whose words and regions attend to each other *before* the score need a forward pass for each pair. But a vector for every region and every word has its price.

# %%
(n, R, D), (m, W, _) = images.vectors.shape, captions.vectors.shape
numbers = n * m * R * W
few = inference.rows_of(captions, torch.arange(min(100, m)))
with torch.no_grad():
    each = timing.best_time(lambda: model.scores(images, few), repeats=1) / (n * len(few.mask))
kept = float(images.mask.sum(dim=1).double().mean()) * D * 4 / 1024
lesson.say(
    f"- **Work:** {n:,} pictures × {m:,} captions × {R} regions × {W} words are {numbers:.1e} "
    f"dot products, each of {D} multiplications and additions: {2 * numbers * D:.1e} operations.\n"
    f"- **Memory:** as one four-axis tensor of float32 they fill {4 * numbers / 2**30:.2f} GiB.\n"
    f"- **Index:** {kept:.1f} KiB a picture; one vector would take {D * 4 / 1024:.2f}.\n"
    f"- **Time, packed:** {1e6 * each:.2f} µs a pair, so {1e6 * each:.1f} s for one query against "
    "a million pictures."
)

# %% [markdown]
# Seconds per query are too long. Lesson 05 pays this price only for a [shortlist](../docs/GLOSSARY.md#shortlist), the best few of a fast search. Memory is easier: nothing forces us to score all captions at once.

# %% [markdown] exercise="block-sizes" difficulty=2 minutes=8 points=2
# ### Your turn: how many captions at once?
#
# Write `block_sizes(images, captions, regions, words, budget)`. It takes five whole numbers and returns a list: how many captions to score together, block by block. A block aligns *all* images with its captions. These alignments lie in memory as float32, 4 bytes a number, **twice**: your `mrsw` makes a masked copy.
# Both together may take `budget` bytes at most. Fill every block as far as that allows; only the last may be smaller. Where not even one caption fits, take one at a time.
#
# <details><summary>Help 1: one caption</summary>
#
# How many bytes does a single caption cost, with all images? How often does that go into the budget?
# </details>
# <details><summary>Help 2: the rest</summary>
#
# `divmod(captions, size)` gives the number of full blocks, and what is left over. What if nothing is left? What if a block could hold more captions than there are?
# </details>


# %% solution="block-sizes"
def block_sizes(images, captions, regions, words, budget):
    """Captions in each block: five whole numbers -> list of whole numbers.

    block_sizes(10, 25, 5, 4, 16_000) is [10, 10, 5]: one caption costs 1,600 bytes.
    """
    ### BEGIN SOLUTION
    size = max(1, budget // (2 * 4 * images * regions * words))
    full, left = divmod(captions, size)
    return [size] * full + [left] * (left > 0)
    ### END SOLUTION


# %% check="block-sizes"
block_sizes = check("block-sizes", block_sizes)

# %% [markdown]
# With it, your `alignments` and your `mrsw` score part of the test set, four axes and all: up to 400 pictures with all their captions.

# %%
gallery = min(400, len(test))
part = np.flatnonzero(test.image_of_caption < gallery)
shown = inference.rows_of(images, torch.arange(gallery))
said = inference.rows_of(captions, torch.from_numpy(part))
sizes = [int(size) for size in block_sizes(gallery, len(part), R, W, 2**27)]


def scan(pool):
    blocks = zip(said.vectors.split(sizes), said.mask.split(sizes), strict=True)
    with torch.no_grad():
        found = [pool(alignments(shown.vectors, w), shown.mask, real) for w, real in blocks]
    return torch.cat(found, dim=1).cpu()


gap_to_library = (scan(mrsw) - scores[:gallery, part]).abs().max()
print(f"{len(sizes)} blocks of {sizes[0]} captions; largest difference {gap_to_library:.0e}")

# %% [markdown]
# ## 10. Other poolings, and who pays for length
#
# TERAN's paper tries four ways to make a score of the matrix:
#
# | name | score | in words |
# | --- | --- | --- |
# | MrSw | $\sum_t \max_r A_{rt}$ | every word takes its best region |
# | MrAVGw | $\frac{1}{W} \sum_t \max_r A_{rt}$ | the same, per real word |
# | MwSr | $\sum_r \max_t A_{rt}$ | every region takes its best word |
# | Symm | MrSw + MwSr | both |

# %% [markdown] exercise="poolings" difficulty=3 minutes=9 points=3
# ### Your turn: four scores from one
#
# Write `pool_alignments(alignments, region_mask, word_mask, how, mrsw)`: from $(N, M, R, W)$ and the masks $(N, R)$ and $(M, W)$ to scores $(N, M)$, where `how` is one of the four names. `mrsw` is your function from section 3: call it, so that you need no mask and no maximum again. Every picture has a real region and every caption a real word.
#
# <details><summary>Help 1: the idea</summary>
#
# MwSr is MrSw with the roles exchanged: captions play the pictures, and words play the regions. So exchange them in the alignments and in the masks, and turn the result back.
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# `alignments.permute(1, 0, 3, 2)` has the axes captions, pictures, words, regions. `word_mask.sum(dim=1)` counts each caption's real words.
# </details>


# %% solution="poolings"
def pool_alignments(alignments, region_mask, word_mask, how, mrsw):
    """TERAN's poolings by name: (N,M,R,W), (N,R) bool, (M,W) bool, name, function -> (N,M).

    For one pair with [[0.9, -0.2, 0.1], [0.3, 0.5, -0.4]], all real:
    MrSw 1.5, MrAVGw 0.5, MwSr 1.4, Symm 2.9.
    """
    ### BEGIN SOLUTION
    by_word = mrsw(alignments, region_mask, word_mask)
    if how == "MrSw":
        return by_word
    if how == "MrAVGw":
        return by_word / word_mask.sum(dim=1)
    by_region = mrsw(alignments.permute(1, 0, 3, 2), word_mask, region_mask).T
    return by_region if how == "MwSr" else by_word + by_region
    ### END SOLUTION


# %% check="poolings"
pool_alignments = check("poolings", pool_alignments)

# %% [markdown]
# The same trained model, pooled in four ways at test time:

# %%
length = said.mask.sum(dim=1).cpu().double()
rows, best_lengths = {}, []
for how in ("MrSw", "MrAVGw", "MwSr", "Symm"):
    pooled = scan(lambda A, r, w, how=how: pool_alignments(A, r, w, how, mrsw))
    rows[how] = [evaluation.retrieval_metrics(pooled, test.image_of_caption[part]).as_dict()]
    best_lengths.append(round(float(length[pooled.argmax(dim=1)].mean()), 1))
table = figures.metrics_table(rows, ["i2t_r1", "t2i_r1"])
table[f"words of the best caption (all: {length.mean():.1f})"] = best_lengths
table

# %% [markdown]
# For text to image, MrSw and MrAVGw must be the same: one caption, one length. Image to text differs. Dividing by the length ruins it, and short captions come first. Why? A long caption that fits is better *evidence* than a short one that fits: many pictures have a red star, few have all that a long caption names. The sum knows that. The mean forgets it.
#
# MwSr and Symm let every box of background have its say. (This model was trained with MrSw. One trained with another pooling may find other cosines.)
#
# ## What you should have seen
#
# Scenes, quick profile, three seeds, lowest to highest:
#
# | what | text to image R@1 | image to text R@1 | swapped twins |
# | --- | --- | --- | --- |
# | one vector, hinge | {{t2i_r1: one vector}} | {{i2t_r1: one vector}} | {{swaps: one vector}} |
# | one vector, InfoNCE | {{t2i_r1: one vector, InfoNCE}} | {{i2t_r1: one vector, InfoNCE}} | {{swaps: one vector, InfoNCE}} |
# | TERAN (MrSw), hinge | {{t2i_r1: TERAN (MrSw)}} | {{i2t_r1: TERAN (MrSw)}} | {{swaps: TERAN (MrSw)}} |
#
# Pointing with TERAN: shape {{pointing_shape: TERAN (MrSw)}} %, colour {{pointing_colour: TERAN (MrSw)}} %, size {{pointing_size: TERAN (MrSw)}} %; chance is {{pointing_chance: TERAN (MrSw)}} %.
#
# ## What comes next
#
# Your words took the **best** region and ignored all others: a hard choice. SCAN (2018) lets each word *attend* to all regions, and compares it with their mixture: a soft choice. Is the mixture worth its price, or does it collect what does not belong there? In lesson 03 you write both, and put them to the test.
#
# ## Three questions
#
# <details><summary>Why does TERAN leave <code>[CLS]</code> out of the alignment?</summary>
#
# `[CLS]` stands for the whole sentence, so it has no region of its own to find. It would probably add much the same to all scores, and blur what the words say. How a whole picture fits a whole sentence is a score of its own: lesson 05.
# </details>
# <details><summary>You train with MwSr. A picture has 36 regions, and six of them show the two objects that its caption speaks of. What do the other 30 regions do to the score?</summary>
#
# Each takes its best word, however bad. They add noise to every pair, and the loss pushes background regions towards some word of their captions. MrSw asks only what is *said* to be there. What is there and not said costs nothing.
# </details>
# <details><summary>All your captions are padded to 60 words because one is that long. What does that cost packed, and what with four axes?</summary>
#
# Packed, it costs only the memory of the padded input, since padding is never multiplied. With four axes every pair pays for 60 words: the cost grows with the longest caption, not with the mean.
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
lesson.clock()
lesson.finish()
