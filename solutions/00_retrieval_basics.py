# %% [markdown] run_minutes=1
# # 00 · Retrieval basics: what counts as finding it
#
# You type *“a small dotted star next to a red square”* and want that one picture out of a thousand. Or you hold a
# picture and want the sentence that describes it. That is **image-text retrieval**: a **query** (the sentence, or the picture) asks, and a
# **gallery** of candidates is put in order. Before we build a single model, this lesson settles what *found* means, because careless counting can flatter a model more than
# any better training can.
#
# **At the end you can**
#
# - turn vectors into a score matrix, and a score matrix into ranks when every image has five captions;
# - compute R@K, MedR, rSum and NDCG, and say what a guesser and a perfect reader would score;
# - recognise three ways to a number that misleads: ties, a 1:1 ground truth, a small gallery.
#
# **Time** about {{minutes}} minutes, 5 exercises. **You need** Python and the basics of PyTorch tensors. No GPU.
#
# An exercise comes with a check that names the likely mistake, and with help that unfolds layer by layer. If you leave one
# out, the notebook goes on with the tested version from `itr_lib`.

# %% tags=["parameters"]
import os

# profile: "smoke" (seconds), "quick" (a laptop), "full" (a GPU)
# data: "scenes", or "flickr8k", "flickr30k", "coco" with root = the folder that holds them
profile = os.environ.get("ITR_PROFILE", "quick")
device = "auto"
seed = 0
data = "scenes"
root = ""

# %%
import numpy as np
import torch

from itr_lib.evaluation import baselines
from itr_lib import figures
from itr_lib.checks import check
from itr_lib.lessons import open_lesson
from itr_lib.data import load_splits
from itr_lib.evaluation import (
    caption_ranks,
    ceiling_scores,
    expected_recall,
    image_ranks,
    pair_accuracy,
    retrieval_metrics,
)
from IPython.display import display
from itr_lib.figures import show

lesson = open_lesson(
    "00_retrieval_basics", profile=profile, device=device, seed=seed, data=data, root=root
)
splits = load_splits(data, root, profile=profile)
test = splits.test

# %% [markdown]
# ## 1. What the data look like
#
# The course brings its own little world: **scenes** of coloured shapes, drawn by a program. They are simple on purpose.
# Because we drew them, we know everything about them: which word speaks of which object, which caption is true of which
# picture, and how well a perfect reader could possibly do. No photograph gives you that. Everything here runs on
# photographs too (set `data` and `root` above), and a later lesson does.

# %%
figure = figures.picture_grid(
    test, range(8), "Eight test pictures, each with two of its captions", captions=2
)
show(figure, alt="A grid of eight pictures with two captions under each.")

# %% [markdown]
# Every image has **five captions**, as in Flickr8k, Flickr30k and MS-COCO, the field's benchmarks. People describe a picture
# differently: they pick other objects, use other words, leave things out. Here are the five captions of the first picture.

# %%
for caption in test.captions_of(0):
    print("·", caption)

# %% [markdown]
# A retrieval model does not see pixels here. As in most of the papers of this course (since *bottom-up attention*, 2018), a **detector**, a
# network trained beforehand to name what a box shows, has described each of some thirty boxes with a feature vector. Some boxes fit an object, some are
# shifted, some show nothing but ground. So an image is a *set of region vectors*, padded to the same number, with a mask that says which are real.

# %%
if data == "scenes":
    figure = figures.boxes_on_picture(test, 0, "Candidate boxes; yellow ones show an object")
    show(
        figure,
        alt="One picture with its candidate boxes; boxes that overlap an object well are yellow.",
    )
print("features", test.features.shape, "= images, regions, numbers a region")
print(
    "mask    ",
    test.region_mask.shape,
    f"= images, regions; {test.region_mask.sum(1).mean():.1f} real ones an image",
)
print("captions", len(test.captions), "· image_of_caption", test.image_of_caption[:12], "...")
print(splits.notes)

# %% [markdown]
# `image_of_caption` is the **ground truth** of the whole task: for each caption, the row of the image that it was written for.

# %%
lesson.clock(44)

# %% [markdown]
# ## 2. Vectors to scores: cosine similarity
#
# Suppose each image and each caption has become a vector. How alike are an image $v$ and a caption $t$? The usual answer is
# the cosine of the angle between them:
#
# $$ s(v, t) = \frac{v \cdot t}{\lVert v \rVert \, \lVert t \rVert} $$
#
# It ignores how long the vectors are and looks only at where they point. For $N$ images and $M$ captions that makes an
# $N \times M$ **score matrix** $S$, one row per image and one column per caption. Everything in this course, however clever, ends in
# such a matrix.

# %% tags=["nbval-check-output"]
image = torch.tensor([3.0, 4.0])
caption = torch.tensor([6.0, 8.0])
other = torch.tensor([4.0, -3.0])
print("dot products", image @ caption, image @ other)
print(
    "cosines     ",
    image @ caption / (image.norm() * caption.norm()),
    image @ other / (image.norm() * other.norm()),
)

# %% [markdown] exercise="cosine-scores" difficulty=1 minutes=5 points=2
# ### Your turn: the score matrix
#
# Write `cosine_matrix(images, captions)`. (Loops would be right, and slow.) One trap: a vector of length zero has no direction. It must score
# 0 with everything, not NaN, since one NaN poisons every mean computed later.
#
# <details><summary>Help 1: the idea</summary>
#
# Divide each vector by its own length first. The cosine of two vectors of length 1 is their dot product, and all dot
# products of two sets of vectors are one matrix product.
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# `x.norm(dim=1, keepdim=True)` gives the lengths as a column. Where a length is 0, divide by 1 instead:
# `torch.where(length > 0, length, 1)`.
# </details>


# %% solution="cosine-scores"
def cosine_matrix(images, captions):
    """Cosine of every image with every caption: (N, D), (M, D) -> (N, M).

    cosine_matrix([[3, 4], [0, 0]], [[6, 8], [4, -3]]) is [[1, 0], [0, 0]].
    """

    ### BEGIN SOLUTION
    def unit(x):
        length = x.norm(dim=1, keepdim=True)
        return x / torch.where(length > 0, length, 1)

    return unit(images) @ unit(captions).T
    ### END SOLUTION


# %% check="cosine-scores"
cosine_matrix = check("cosine-scores", cosine_matrix)

# %% [markdown]
# In the library this is `itr_lib.similarity.cosine_scores`.
#
# ## 3. A retrieval system in no time
#
# We want a real score matrix to evaluate, and have no model yet. So let us cheat a little and build a **bag-of-words
# baseline**. On the scenes it has perfect eyes: a picture becomes the counts of all that is in it (*red* 2, *star* 1, *striped* 1, *grass* 1,
# ...), a caption the counts of what it names, and the score is their cosine. Synonyms are resolved (*teal* is *turquoise*, a *disc* is a *circle*). (On photographs, which come without
# such tags, a picture borrows the words of the training pictures that look most like it.)
#
# What it cannot know is which word goes with which. Keep that in mind.

# %%
scores = (
    baselines.tag_scores(test)
    if data == "scenes"
    else baselines.neighbour_scores(splits.train, test)
)
owner = test.image_of_caption
few = torch.arange(4)
columns = np.flatnonzero(owner < 4)[::2]
figure = figures.similarity_heatmap(
    scores[few][:, columns],
    rows=[f"image {i}" for i in few.tolist()],
    columns=[f"caption {c}\n(image {owner[c]})" for c in columns],
    title="True matches (framed) mostly score highest, but not always",
    matches=owner[columns][None] == few.numpy()[:, None],
)
show(
    figure,
    alt="Heat map of 4 images by 10 captions. The framed cells of true matches are mostly the brightest.",
)

# %% [markdown]
# ## 4. Scores to ranks, with five captions
#
# Retrieval runs in two directions:
#
# - **image to text** (i2t): an image asks, all captions of the gallery are ranked. Any of its own five captions is a hit, so
#   **the rank of the query is the rank of its best caption**, and its other four do not count as rivals.
# - **text to image** (t2i): a caption asks, all images are ranked. One image is right.
#
# And a rule for **ties**: a false candidate with the *same* score stands before the true one. Why so strict? A broken model
# that gives every pair the score 0.5 would otherwise be perfect. With this rule it gets what it deserves.

# %% tags=["nbval-check-output"]
example = torch.tensor([[0.9, 0.4, 0.7, 0.7]])
print("image 0 owns captions 2 and 3; their best score is 0.7")
print(
    "false captions that score at least 0.7:",
    int((example[0, :2] >= 0.7).sum()),
    "-> rank",
    1 + int((example[0, :2] >= 0.7).sum()),
)

# %% [markdown] exercise="caption-ranks" difficulty=3 minutes=10 points=3
# ### Your turn: the rank of the best caption
#
# Write `ranks_of_captions(scores, image_of_caption)`: for every image the rank of its best true caption, from 1, ties against
# the model. Images may have any number of captions, in any order.
#
# <details><summary>Help 1: the idea</summary>
#
# You need no sorting. The rank is 1 plus the number of *false* captions that score at least as much as the best *true* one.
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# A boolean matrix says which caption is whose: `own = image_of_caption[None, :] == torch.arange(N)[:, None]`. The best own
# score of each row: fill the others with `-torch.inf` (`masked_fill`) and take the maximum along the row.
# </details>
# <details><summary>Help 3: nearly there</summary>
#
# `1 + ((scores >= best[:, None]) & ~own).sum(dim=1)`
# </details>


# %% solution="caption-ranks"
def ranks_of_captions(scores, image_of_caption):
    """Rank of each image's best caption, from 1: (N, M), (M,) ints -> (N,) ints.

    ranks_of_captions([[.9, .4, .7, .7], [.1, .2, .3, .4]], [1, 1, 0, 0]) is [2, 3].
    """
    ### BEGIN SOLUTION
    own = image_of_caption[None, :] == torch.arange(len(scores), device=scores.device)[:, None]
    best = scores.masked_fill(~own, -torch.inf).amax(dim=1)
    return 1 + ((scores >= best[:, None]) & ~own).sum(dim=1)
    ### END SOLUTION


# %% check="caption-ranks"
ranks_of_captions = check("caption-ranks", ranks_of_captions)

# %% [markdown]
# The library has both directions: `itr_lib.evaluation.caption_ranks` and `image_ranks`.

# %%
i2t, t2i = (
    torch.from_numpy(caption_ranks(scores, owner)),
    torch.from_numpy(image_ranks(scores, owner)),
)
print("image to text:", i2t[:15].tolist(), "...")
print("text to image:", t2i[:15].tolist(), "...")
lesson.clock(28)

# %% [markdown]
# ## 5. Ranks to metrics
#
# A thousand ranks are too many to read. The field reports
#
# - **R@K** (*recall at K*): the percentage of queries with a rank of at most K, for K = 1, 5, 10;
# - **MedR, MeanR**: the median and the mean rank;
# - **rSum**: the six recalls added, at most 600. It is what checkpoints are often chosen by.

# %% [markdown] exercise="recall-at-k" difficulty=1 minutes=3 points=1
# ### Your turn: R@K
#
# Write `recall_at_k(ranks, k)`, in percent.
#
# <details><summary>Help 1: the idea</summary>
#
# Compare the ranks with k, and take the mean of the result.
# </details>
# <details><summary>Help 2: the trap</summary>
#
# The mean of a boolean tensor needs a float first: `(ranks <= k).float().mean()`.
# </details>


# %% solution="recall-at-k"
def recall_at_k(ranks, k):
    """Percentage of queries that find a match within k: (Q,) ints from 1 -> float.

    recall_at_k([1, 7, 2, 5], 5) is 75.0.
    """
    ### BEGIN SOLUTION
    return 100 * float((ranks <= k).double().mean())
    ### END SOLUTION


# %% check="recall-at-k"
recall_at_k = check("recall-at-k", recall_at_k)

# %%
metrics = retrieval_metrics(scores, owner)
display(figures.metrics_table({"bag of words": [metrics.as_dict()]}))
print(f"image to text: MedR {metrics.i2t_medr:g}, MeanR {metrics.i2t_meanr:.1f}")
print(f"text to image: MedR {metrics.t2i_medr:g}, MeanR {metrics.t2i_meanr:.1f}")
lesson.record(bag_t2i_r1=metrics.t2i_r1, bag_i2t_r1=metrics.i2t_r1, bag_rsum=metrics.rsum)

# %% [markdown]
# Numbers are one thing. **Always look at what was retrieved**, too: it tells you in a minute what a table never says.

# %% tags=["key-figure"]
failed = np.flatnonzero((t2i.numpy() > 1) & (t2i.numpy() <= 5))[:2]
found = np.flatnonzero(t2i.numpy() == 1)[:1]
figure = figures.image_gallery(
    test,
    scores,
    [*found, *failed],
    "Text to image: the five best pictures, the true one framed in green",
)
show(
    figure,
    alt="Three captions, each with its five best-scoring pictures; the true picture is framed in green.",
)

# %%
figure = figures.caption_gallery(
    test, scores, [0, 1, 2], "Image to text: the five best captions; ticks mark the image's own"
)
show(
    figure,
    alt="Three pictures, each with its five best-scoring captions; the image's own captions are ticked and green.",
)

# %% [markdown]
# Look at the failures in the first figure. The wrong pictures hold many of the caption's *words*, often several times over, but not in the right
# combination: the bag counts a teal disc and a white star as half of a white disc and a teal star.

# %%
lesson.clock(22)

# %% [markdown]
# ## 6. What would a guesser score, and what a perfect reader?
#
# A number means nothing without its floor and its ceiling. The floor is **chance**: shuffle the gallery. For a caption that
# looks for one image among $N$ that is simply $K/N$. For an image that looks for any of its $c$ captions among $M = cN$ it
# is the chance of at least one hit in $K$ draws *without replacement*:
#
# $$ P(\text{hit within } K) = 1 - \frac{\binom{M-c}{K}}{\binom{M}{K}} $$

# %% [markdown] exercise="chance-recall" difficulty=2 minutes=6 points=2
# ### Your turn: chance level of image to text
#
# Write `chance_recall(images, captions_per_image, k)`, in percent, exactly. Mind a $k$ so large that missing is impossible.
#
# <details><summary>Help 1: the idea</summary>
#
# `math.comb(n, k)` counts the ways to choose k of n, and is 0 when k is larger than n.
# </details>
# <details><summary>Help 2: the trap</summary>
#
# A list cannot be longer than the gallery: use `min(k, total)`, or you divide by zero.
# </details>

# %% solution="chance-recall"
import math


def chance_recall(images, captions_per_image, k):
    """R@K of a random ranking, image to text, in percent: three ints -> float.

    chance_recall(1000, 5, 1) is 0.1; chance_recall(2, 5, 6) is 100.
    """
    ### BEGIN SOLUTION
    total = images * captions_per_image
    k = min(k, total)
    return 100 * (1 - math.comb(total - captions_per_image, k) / math.comb(total, k))
    ### END SOLUTION


# %% check="chance-recall"
chance_recall = check("chance-recall", chance_recall)

# %% [markdown]
# The ceiling is more interesting. *“a red star on the grass”* may be true of three pictures in the gallery. Then nobody, however
# clever, can know which one the author had in mind: the best a reader can do is to name each with probability 1/3. On
# photographs we can only guess how often this happens. In our scenes we can match every caption's meaning against every
# scene, and compute the **exact ceiling** of a reader who knows all that is true and nothing else.
#
# Both references come from one function, `expected_recall`, which breaks ties by lot, exactly: constant scores give chance, and
# $1/n$ for each of the $n$ pictures a caption is true of gives the ceiling.

# %%
references = {"chance": expected_recall(np.zeros(scores.shape), owner)}
if test.truth is not None:
    from itr_lib.data.scenes import truth_matrix

    truth = truth_matrix(test.truth.scenes, test.truth.captions)
    references["ceiling"] = expected_recall(ceiling_scores(truth), owner)
    several = truth.sum(axis=0)
    share = 100 * (several > 1).mean()
    print(f"{share:.0f} % of captions are true of more than one of the {len(test):,} pictures")
    lesson.record(
        ceiling_t2i_r1=references["ceiling"]["t2i_r1"],
        ceiling_i2t_r1=references["ceiling"]["i2t_r1"],
    )
rows = {"bag of words": metrics.as_dict()} | references
display(figures.metrics_table({name: [values] for name, values in rows.items()}))

# %% tags=["key-figure"]
figure = figures.recall_bars(
    {"bag of words": [metrics.as_dict()]},
    references,
    title="The bag is far above chance, and well below the ceiling",
)
show(
    figure,
    alt="Bars of R@1, R@5 and R@10 in both directions for the bag of words, with lines for chance and ceiling.",
)

# %% [markdown]
# ## 7. Three ways to fool yourself
#
# Each of the three gets a number here.
#
# **Ties.** The bag makes exact ties, since counts are whole numbers. Let us decide them in the model's favour, and then evaluate a model that has
# collapsed: every pair scores the same.


# %%
def flattering_t2i_r1(scores):
    """R@1, text to image, with ties decided for the model: the mistake, on purpose."""
    own = scores[owner, np.arange(len(owner))]
    return 100 * float(((scores > own).sum(dim=0) == 0).double().mean())


collapsed = torch.full_like(scores, 0.5)
for name, matrix in (("bag of words", scores), ("collapsed model", collapsed)):
    honest = retrieval_metrics(matrix, owner).t2i_r1
    print(
        f"{name:16s} t2i R@1   ties against the model {honest:5.1f}   ties for the model {flattering_t2i_r1(matrix):5.1f}"
    )
lesson.record(tie_inflation=flattering_t2i_r1(scores) - metrics.t2i_r1)

# %% [markdown]
# A collapsed network with 100 % recall: this bug is real, and it always looks like a breakthrough.
#
# **A 1:1 ground truth.** Evaluating “image $i$ belongs to caption $i$” on one caption per image is easy to code. Image to text then has a fifth of the
# gallery (easier) and one chance instead of five (harder); text to image asks a fifth of the queries, so that the result hangs on which caption was kept. The numbers
# compare with nobody's. Here is every choice of the caption:

# %%
print(f"all captions:          i2t R@1 {metrics.i2t_r1:5.1f}   t2i R@1 {metrics.t2i_r1:5.1f}")
first = np.unique(owner, return_index=True)[1]
for place in range(min(np.bincount(owner))):
    one_to_one = retrieval_metrics(scores[:, first + place], np.arange(len(test)))
    print(
        f"caption {place + 1} only, 1:1:   i2t R@1 {one_to_one.i2t_r1:5.1f}   t2i R@1 {one_to_one.t2i_r1:5.1f}"
    )

# %% [markdown]
# **A small gallery.** Finding one picture among 100 is a different task from finding it among 1,000. Here is the same score
# matrix, cut down to ever smaller galleries.

# %% tags=["key-figure"]
import matplotlib.pyplot as plt

sizes = [n for n in (10, 20, 50, 100, 200, 500, 1000, 2000) if n < len(test)] + [len(test)]
rng = np.random.default_rng(seed)
curves = {"i2t_r1": [], "t2i_r1": []}
for size in sizes:
    drawn = []
    for _ in range(20 if size < len(test) else 1):
        rows = np.sort(rng.permutation(len(test))[:size])
        columns = np.flatnonzero(np.isin(owner, rows))
        drawn.append(
            retrieval_metrics(scores[rows][:, columns], np.searchsorted(rows, owner[columns]))
        )
    for metric in curves:
        curves[metric].append(np.mean([getattr(m, metric) for m in drawn]))
figure, axis = plt.subplots(figsize=(6.4, 3.4))
for (metric, values), style in zip(curves.items(), ("s--", "o-"), strict=True):
    axis.plot(
        sizes, values, style, label="image to text" if metric == "i2t_r1" else "text to image"
    )
axis.set(
    xscale="log",
    xlabel="images in the gallery",
    ylabel="R@1 (%)",
    ylim=(0, 103),
    title="The same model, the smaller the gallery the better it looks",
)
axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
axis.minorticks_off()
axis.legend(frameon=False)
show(
    figure,
    alt="R@1 in both directions against the size of the gallery, falling steadily as the gallery grows.",
)
print(
    "   ".join(
        f"{size:,}: {value:.1f}" for size, value in zip(sizes, curves["t2i_r1"], strict=True)
    ),
    "(text to image R@1; smaller galleries: mean of 20 draws)",
)
lesson.record(t2i_r1_gallery_10=curves["t2i_r1"][0])

# %% [markdown]
# So a recall without the size of its gallery says nothing. The field's sizes are 1,000 images (Flickr8k, Flickr30k, COCO 1K as a mean
# over five folds) and 5,000 (COCO 5K), always with five captions an image.

# %%
lesson.clock(10)

# %% [markdown]
# ## 8. Not all misses are alike: NDCG
#
# R@K knows one right answer. But if you ask for *“a red star above a striped circle”* and get another red star above another striped
# circle, you are nearly happy. **NDCG** (normalised discounted cumulative gain) takes a graded relevance $r_j \ge 0$
# of every candidate $j$, adds it up along the ranking, later places counting less, and divides by the best possible sum:
#
# $$ \mathrm{DCG@}k = \sum_{\text{rank}=1}^{k} \frac{r_{\text{rank}}}{\log_2(\text{rank} + 1)} \qquad \mathrm{NDCG@}k = \frac{\mathrm{DCG@}k}{\text{DCG@}k \text{ of the best order}} $$
#
# On photographs the relevance of an image to a caption is estimated from its five captions (TERAN uses ROUGE-L and SPICE). In our
# scenes we know it: how far the caption's *scene graph* (its objects, attributes and relations) agrees with that of the image's captions, as an F-score: the harmonic
# mean of precision and recall. That is SPICE without a parser's mistakes. We take $k = 25$, as TERAN (lesson 02) does.

# %% tags=["nbval-check-output"]
gains = torch.tensor(
    [3.0, 0.0, 2.0]
)  # relevance in the order in which a model ranked three candidates
discounts = 1 / torch.log2(torch.tensor([2.0, 3.0, 4.0]))
print("discounts", discounts)
print(
    f"DCG {float(gains @ discounts):.4f}, best order {float(gains.sort(descending=True).values @ discounts):.4f}"
)

# %% [markdown] exercise="ndcg" difficulty=3 minutes=8 points=3
# ### Your turn: NDCG@k
#
# Write `ndcg_at_k(scores, relevance, k)`: the mean over queries. You may assume that no two scores of a query are equal. (The library
# puts the least relevant of equals first, the same rule as for ranks.)
#
# <details><summary>Help 1: the idea</summary>
#
# Two DCGs a query: relevance in the order of the scores, and relevance in its own order. Both stop at k.
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# `relevance.gather(1, scores.argsort(dim=1, descending=True))[:, :k]` is the relevance along the ranking. The discounts of ranks
# 1, 2, 3, ... are `1 / torch.log2(torch.arange(2, ..., dtype=relevance.dtype))`: a product of tensors needs one kind of number.
# </details>
# <details><summary>Help 3: the trap</summary>
#
# Divide query by query, and take the mean at the end. A gallery smaller than k is fine if the discounts are made as long as the cut list.
# </details>


# %% solution="ndcg"
def ndcg_at_k(scores, relevance, k):
    """Mean NDCG@k with linear gain: (Q, C), (Q, C) -> float.

    For one query with scores [3, 2, 1] and relevance [3, 0, 2] it is 4 / 4.2619 = 0.9386 at k = 3.
    """
    ### BEGIN SOLUTION
    ranked = relevance.gather(1, scores.argsort(dim=1, descending=True))[:, :k]
    best = relevance.sort(dim=1, descending=True).values[:, :k]
    discounts = 1 / torch.log2(
        torch.arange(2, best.shape[1] + 2, dtype=relevance.dtype, device=relevance.device)
    )
    return float(((ranked @ discounts) / (best @ discounts)).mean())
    ### END SOLUTION


# %% check="ndcg"
ndcg_at_k = check("ndcg", ndcg_at_k)

# %%
from itr_lib.evaluation import ndcg

if test.truth is not None:
    from itr_lib.data.scenes import graph_relevance

    relevance = torch.from_numpy(graph_relevance(test.truth.scenes, test.truth.captions, owner))
    values = {
        "bag of words": ndcg(scores.T, relevance.T),
        "random order": ndcg(torch.rand(scores.T.shape), relevance.T),
    }
    print(
        "text to image, NDCG@25:",
        "   ".join(f"{name} {value:.3f}" for name, value in values.items()),
    )
    lesson.record(bag_ndcg=values["bag of words"])
else:
    print(
        "Photographs have no scene graphs: lesson 02 estimates relevance from their captions."
    )

# %% [markdown]
# ## 9. Where the bag fails, exactly
#
# One last measurement, which the rest of the course will come back to. **Twins** are two pictures that differ in one thing. In a *swap*
# two objects have exchanged their colours or textures; both captions have the same words. In a *replacement* (the control) one attribute
# is simply another. For each caption: does its own picture score higher than the twin's? Chance is 50 %. This is a forced choice between two, so here a tie counts
# one half: who sees no difference can do no better than toss a coin.

# %%
if splits.probes:
    for kind, probe in splits.probes.items():
        accuracy = pair_accuracy(baselines.tag_scores(probe))["image"]
        print(f"{kind:9s} {accuracy:5.1f} % of captions prefer their own picture")
        lesson.record(**{f"bag_{kind}": accuracy})
    figure = figures.pair_figure(
        splits.probes["swaps"],
        baselines.tag_scores(splits.probes["swaps"]),
        0,
        "A swap: same things, same words, equal scores",
    )
    show(
        figure,
        alt="Two pictures that differ only in which object has which colour, with the scores of both captions under each.",
    )

# %% [markdown]
# The bag has perfect eyes and still guesses. What is missing is **binding**: which attribute belongs to which object. Whether a network that
# squeezes a picture into *one* vector does better is the question of lesson 01.
#
# ## What you should have seen
#
# | what | where | what it showed |
# | --- | --- | --- |
# | score matrix | section 2 | every method ends in $S$, images × captions |
# | rank with five captions | section 4 | best own caption counts; ties against the model |
# | chance and ceiling | section 6 | a recall lives between them; captions are ambiguous, and we know how much |
# | ties, 1:1, small gallery | section 7 | a collapsed model at 100 %; half of the i2t recall gone; a gallery of ten, and R@1 is beyond 85 % |
# | twins | section 9 | a bag of words is at exactly 50 % on swaps, with perfect eyes |
#
# ## Three questions
#
# <details><summary>Some captions are true of several pictures. Why does that lower the ceiling of text to image, but not that of image to text?</summary>
#
# An ambiguous caption has one image to find and cannot tell it from the others. An image needs only one of its five captions, and the perfect reader starts with
# those that are true of nothing else.
# </details>
# <details><summary>Your model scores R@1 = 100 in both directions after the first epoch. What do you look at first?</summary>
#
# The scores. If they are all alike, the rule for ties is wrong (or missing). If not, look for the ground truth leaking into the
# features, and count the images in the gallery.
# </details>
# <details><summary>Model A has the higher R@1, model B the higher NDCG@25. Which one do you ship for a picture search?</summary>
#
# It depends on whether people look for one known picture (A) or for something that fits (B). Most people scroll: a list that is full of nearly
# right pictures serves them better than one exact hit followed by noise.
# </details>
#
# ## Further reading
#
# - M. Hodosh, P. Young, J. Hockenmaier. *Framing image description as a ranking task.* JAIR 47, 2013. Flickr8k, and ranking as evaluation.
# - P. Young, A. Lai, M. Hodosh, J. Hockenmaier. *From image descriptions to visual denotations.* TACL 2, 2014. Flickr30k.
# - A. Karpathy, L. Fei-Fei. *Deep visual-semantic alignments for generating image descriptions.* CVPR 2015. The splits everybody uses.
# - K. Järvelin, J. Kekäläinen. *Cumulated gain-based evaluation of IR techniques.* ACM TOIS 20(4), 2002. DCG and NDCG.
# - P. Anderson, B. Fernando, M. Johnson, S. Gould. *SPICE: semantic propositional image caption evaluation.* ECCV 2016.
# - T. Thrush et al. *Winoground: probing vision and language models for visio-linguistic compositionality.* CVPR 2022.

# %%
lesson.clock(0)
lesson.finish()
