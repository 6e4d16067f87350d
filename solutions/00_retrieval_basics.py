# %% [markdown] run_minutes=1
# # 00 · Retrieval basics: what counts as finding it
#
# You type *“a small dotted star next to a red square”* and want that one picture out of a thousand. Or you hold a
# picture and want the sentence that describes it. That is **[image-text retrieval](../docs/GLOSSARY.md#image-text-retrieval)**: a **[query](../docs/GLOSSARY.md#query)** (the sentence, or the
# picture) asks, and a **[gallery](../docs/GLOSSARY.md#gallery)** of candidates is put in order. When is a picture *found*? This lesson settles that before
# we build a single model, because careless counting can raise a number more than better training does.
#
# **At the end you can**
#
# - turn vectors into a [score matrix](../docs/GLOSSARY.md#score-matrix), and a score matrix into [ranks](../docs/GLOSSARY.md#rank) when every image has five captions;
# - compute the field's metrics ([R@K](../docs/GLOSSARY.md#recall-at-k), [MedR](../docs/GLOSSARY.md#median-rank), [rSum](../docs/GLOSSARY.md#rsum), [NDCG](../docs/GLOSSARY.md#normalised-discounted-cumulative-gain)), and say what a guesser and a perfect reader would score;
# - take an evaluation that you did not write, and find out what is wrong with it.
#
# **Time** about {{minutes}} minutes, 7 exercises. **You need** Python and the basics of PyTorch tensors. No GPU.
#
# Below each exercise stands a check. It names the likely mistake in a wrong function; with a right one, **the lesson runs on
# your code** from there on. Help unfolds layer by layer, and a solution stands folded below the check. If you leave an
# exercise out, the notebook goes on with the library's version.
#
# Counting starts at 0 in the whole course, in code and in prose: *picture 0* is the first picture. Ranks are the one
# exception: the best candidate has rank 1, as everywhere in the field.
#
# At hand: [glossary](../docs/GLOSSARY.md), [cheat sheet](../docs/CHEATSHEET.md), [errors](../docs/ERRORS.md).

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

from itr_lib import evaluation, figures
from itr_lib.checks import check, library  # library("slug"): to go on without an answer
from itr_lib.data.scenes import graph_relevance, truth_matrix
from itr_lib.evaluation import baselines, flawed
from itr_lib.lessons import open_lesson

# %%
lesson = open_lesson(
    "00_retrieval_basics", profile=profile, device=device, seed=seed, data=data, root=root
)
splits, _ = lesson.load()
test = splits.test

# %% [markdown]
# ## 1. What the data look like
#
# The course brings its own little world: **scenes** of coloured shapes, drawn by a program. They are simple on purpose.
# Because we drew them, we know everything about them: which word speaks of which object, which caption is true of which
# picture, and how well a perfect reader could possibly do. No photograph gives you that. To run the lesson on photographs,
# set `data` and `root` above.

# %%
lesson.show(
    figures.picture_grid(
        test, range(8), "Eight test pictures, each with two of its captions", captions=2
    )
)

# %% [markdown]
# Every image has **five captions**, as in Flickr8k, Flickr30k and MS-COCO, the field's benchmarks. People describe a
# picture differently: they pick other objects, use other words, leave things out. Here are the five captions of
# picture 0.

# %% tags=["nbval-check-output"]
for caption in test.captions_of(0):
    print("·", caption)

# %% [markdown]
# What does a model see of a picture? As in most papers of this course, a **[detector](../docs/GLOSSARY.md#detector)** looks first: a network trained
# beforehand to name what a box shows (Anderson et al., 2018). It describes each of some thirty boxes, called **[regions](../docs/GLOSSARY.md#region)**,
# with a [feature vector](../docs/GLOSSARY.md#feature-vector). Some boxes fit an object, some are shifted, some show nothing but ground. So to a model, an image
# is a *set of region vectors*. All sets are [padded](../docs/GLOSSARY.md#padding) to the same size, and a [mask](../docs/GLOSSARY.md#mask) says which regions are real.

# %%
if data == "scenes":
    lesson.show(
        figures.boxes_on_picture(test, 0, "Candidate boxes; yellow ones show an object")
    )
real = test.region_mask.sum(1).mean()
print("features", test.features.shape, "= images, regions, numbers per region")
print("mask    ", test.region_mask.shape, f"= images, regions; {real:.1f} real ones per image")
print("captions", len(test.captions), "· image_of_caption", test.image_of_caption[:12], "...")
print(splits.notes)

# %% [markdown]
# `image_of_caption` is the **[ground truth](../docs/GLOSSARY.md#ground-truth)** of the whole task: for each caption, the row of the image that it was
# written for. We call it `owner` below.

# %%
owner = torch.from_numpy(test.image_of_caption).long()
lesson.clock()

# %% [markdown]
# ## 2. Vectors to scores: cosine similarity
#
# Suppose each image and each caption has become a vector. How alike are an image $v$ and a caption $t$? The usual answer
# is the [cosine](../docs/GLOSSARY.md#cosine) of the angle between them:
#
# $$ s(v, t) = \frac{v \cdot t}{\lVert v \rVert \, \lVert t \rVert} $$
#
# It ignores how long the vectors are and looks only at where they point. For $N$ images and $M$ captions that makes an
# $N \times M$ **score matrix** $S$, with a row for each image and a column for each caption. Everything in this course,
# however clever, ends in such a matrix.

# %% tags=["nbval-check-output"]
image = torch.tensor([3.0, 4.0])
caption = torch.tensor([6.0, 8.0])
other = torch.tensor([4.0, -3.0])
for vector in (caption, other):
    cosine = image @ vector / (image.norm() * vector.norm())
    print(f"dot product {image @ vector:2.0f}, cosine {cosine:.0f}")

# %% [markdown] exercise="cosine-scores" difficulty=1 minutes=6 points=2
# ### Your turn: the score matrix
#
# Write `cosine_scores(images, captions)`. Both hold one vector in each row. One trap: a vector of length zero has no
# direction. Let it score 0 with everything. Dividing by its length gives NaN, and one NaN spoils every mean computed later.
# All other vectors are at least 0.05 long.
#
# <details><summary>Help 1: the idea</summary>
#
# Divide each vector by its own length first. What is the cosine of two vectors of length 1? And which single operation
# gives the dot products of *all* rows of one matrix with *all* rows of another?
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# `x.norm(dim=1, keepdim=True)` gives the lengths as a column, by which the rows can be divided.
# `torch.where(condition, a, b)` takes `a` where the condition holds and `b` elsewhere. What can a zero vector safely be
# divided by?
# </details>


# %% solution="cosine-scores"
def cosine_scores(images, captions):
    """Cosine of every image with every caption: (N, D), (M, D) -> (N, M).

    cosine_scores([[3, 4], [0, 0]], [[6, 8], [4, -3], [1, 0]]) is [[1, 0, 0.6], [0, 0, 0]].
    """

    ### BEGIN SOLUTION
    def unit(x):
        length = x.norm(dim=1, keepdim=True)
        return x / torch.where(length > 0, length, 1)

    return unit(images) @ unit(captions).T
    ### END SOLUTION


# %% check="cosine-scores"
cosine_scores = check("cosine-scores", cosine_scores)

# %% [markdown]
# ## 3. A retrieval system in no time
#
# We want a real score matrix to evaluate, and have no model yet. So let us cheat a little and build a **[bag of words](../docs/GLOSSARY.md#bag-of-words)**.
# On the scenes it has perfect eyes: it is told what is there. A picture becomes the counts of all that is in it (*red* 2,
# *star* 1, *striped* 1, *grass* 1, ...), a caption becomes the counts of what it names, and your cosine compares the two.
# Synonyms are resolved: *teal* counts as *turquoise*, a *disc* as a *circle*. (Photographs come without such counts. There a
# picture borrows the words of the training pictures that look most like it.)
#
# The bag cannot know which word goes with which. Keep that in mind.


# %%
def bag_scores(split):
    """Cosines of all bags of a split; rounded, so that what is equal on paper is equal here."""
    if split.truth is None:  # photographs
        return baselines.neighbour_scores(splits.train, split)
    return cosine_scores(*baselines.tag_vectors(split)).double().round(decimals=6)


scores = bag_scores(test)
print("score matrix", tuple(scores.shape), "= images, captions")

# %%
columns = (owner < 4).nonzero()[::2, 0]
title = "True matches (framed) score highest in their column"
missed = columns[scores[:4, columns].argmax(dim=0) != owner[columns]].tolist()
if missed:
    title += f", except under caption {', '.join(map(str, missed))}"
figure = figures.similarity_heatmap(
    scores[:4, columns],
    rows=[f"image {i}" for i in range(4)],
    columns=[f"caption {c}\n(image {owner[c]})" for c in columns.tolist()],
    title=title,
    matches=(owner[columns] == torch.arange(4)[:, None]).numpy(),
)
lesson.show(figure)

# %% [markdown]
# ## 4. Scores to ranks, with five captions
#
# A query puts the gallery in order. Where does the right answer stand? That is its **rank**: 1 if it comes first. Retrieval
# runs in two directions:
#
# - **[image to text](../docs/GLOSSARY.md#image-to-text)** (i2t): an image asks, and all captions are ranked. Any of its own five captions is a hit. So
#   **the rank of the query is the rank of its best caption**, and its other four do not count as rivals.
# - **[text to image](../docs/GLOSSARY.md#text-to-image)** (t2i): a caption asks, and all images are ranked. One image is right.
#
# And a rule for **[ties](../docs/GLOSSARY.md#tie)**: a false candidate with the *same* score stands before the true one. Why so strict? A broken
# model that gives every pair the score 0.5 would otherwise be perfect. With this rule it comes last, as it should.

# %% tags=["nbval-check-output"]
example = torch.tensor([[0.9, 0.4, 0.7, 0.7]])
ahead = int((example[0, :2] >= 0.7).sum())
print("image 0 owns captions 2 and 3; their best score is 0.7")
print("false captions that score at least 0.7:", ahead, "-> rank", 1 + ahead)

# %% [markdown] exercise="caption-ranks" difficulty=3 minutes=10 points=3
# ### Your turn: the rank of the best caption
#
# Write `caption_ranks(scores, image_of_caption)`: for every image the rank of its best true caption, with ties against the
# model. Every image has at least one caption; how many may differ, and they may stand in any order. Ranks are whole numbers.
#
# <details><summary>Help 1: the idea</summary>
#
# You need no sorting. Ask instead: how many *false* captions score at least as much as the best *true* one?
# </details>
# <details><summary>Help 2: who belongs to whom</summary>
#
# A matrix of True and False, of the same shape as the scores, can say which caption is whose: compare `image_of_caption`,
# as a row, with the numbers of the images, as a column. Call it `own`; then `~own` marks the false ones.
# </details>
# <details><summary>Help 3: the best own score</summary>
#
# First set every score that must not win to `-torch.inf`: `masked_fill(mask, value)` fills where the mask is True. (Why is 0
# no good? Scores can be negative.) Then take the maximum of each row. To compare these maxima with the rows, make them a column.
# </details>


# %% solution="caption-ranks"
def caption_ranks(scores, image_of_caption):
    """Rank of each image's best caption, from 1: (N, M), (M,) ints -> (N,) ints.

    caption_ranks([[.9, .4, .7, .7], [.1, .2, .3, .4]], [1, 1, 0, 0]) is [2, 3].
    """
    ### BEGIN SOLUTION
    own = image_of_caption[None, :] == torch.arange(len(scores), device=scores.device)[:, None]
    best = scores.masked_fill(~own, -torch.inf).amax(dim=1)
    return 1 + ((scores >= best[:, None]) & ~own).sum(dim=1)
    ### END SOLUTION


# %% check="caption-ranks"
caption_ranks = check("caption-ranks", caption_ranks)

# %% [markdown] exercise="image-ranks" difficulty=2 minutes=6 points=2
# ### Your turn: the other direction
#
# Write `image_ranks(scores, image_of_caption)`: for every caption the rank of its one image. A caption asks, so it
# looks down its *column*. The rule for ties is the same.
#
# <details><summary>Help 1: the idea</summary>
#
# The score to beat is that of the caption with its own image: one number for each column. Then count down the column.
# </details>
# <details><summary>Help 2: one number for each column</summary>
#
# `scores[rows, columns]`, with two lists, picks one entry for each pair of a row and a column. The columns are 0, 1, 2, ...;
# which list says the row of each? And when you count all that score at least as much: who is counted besides the rivals?
# </details>


# %% solution="image-ranks"
def image_ranks(scores, image_of_caption):
    """Rank of each caption's image, from 1: (N, M), (M,) ints -> (M,) ints.

    image_ranks([[.9, .4, .7, .7], [.1, .2, .3, .4]], [1, 1, 0, 0]) is [2, 2, 1, 1].
    """
    ### BEGIN SOLUTION
    truth = scores[image_of_caption, torch.arange(scores.shape[1], device=scores.device)]
    # The true image counts itself: that is the 1 from which ranks start.
    return (scores >= truth).sum(dim=0)
    ### END SOLUTION


# %% check="image-ranks"
image_ranks = check("image-ranks", image_ranks)

# %%
i2t, t2i = caption_ranks(scores, owner), image_ranks(scores, owner)
print("image to text:", i2t[:15].tolist(), "...")
print("text to image:", t2i[:15].tolist(), "...")
lesson.clock()

# %% [markdown]
# ## 5. Ranks to metrics
#
# Thousands of ranks are too many to read. How do they become a few numbers? The field reports
#
# - **R@K** (*recall at K*): the percentage of queries with a rank of at most K, for K = 1, 5, 10;
# - **MedR, MeanR**: the median and the mean rank;
# - **rSum**: the six recalls (three K, two directions) added, at most 600. While a model trains, its best state is often
#   chosen by it.

# %% [markdown] exercise="recall-at-k" difficulty=1 minutes=3 points=1
# ### Your turn: R@K
#
# Write `recall_at_k(ranks, k)`. The result is a percentage, between 0 and 100.
#
# <details><summary>Help 1: the idea</summary>
#
# Which ranks are a hit? Compare all of them with k at once: that gives True and False. What share of them is True?
# </details>
# <details><summary>Help 2: the trap</summary>
#
# PyTorch refuses the mean of True and False. Make numbers of them first, with `.float()`.
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

# %% [markdown]
# Your three functions make the whole table of a paper. The last line is the library's rSum, for comparison.


# %%
def recalls_of(scores, owner):
    """R@1, R@5 and R@10 in both directions, and their sum: all of it your own code."""
    ranks = {"i2t": caption_ranks(scores, owner), "t2i": image_ranks(scores, owner)}
    recalls = {
        f"{way}_r{k}": float(recall_at_k(ranks[way], k)) for way in ranks for k in (1, 5, 10)
    }
    return {**recalls, "rsum": sum(recalls.values())}


recalls = recalls_of(scores, owner)
for way, ranks in (("i2t", i2t), ("t2i", t2i)):
    found = "   ".join(f"R@{k} {recalls[f'{way}_r{k}']:.1f}" for k in (1, 5, 10))
    print(f"{way}   {found}   MedR {np.median(ranks):g}   MeanR {np.mean(ranks.tolist()):.1f}")
print(f"rSum  {recalls['rsum']:.1f}")
print(f"rSum  {evaluation.retrieval_metrics(scores, owner).rsum:.1f} as the library counts")
lesson.record(
    bag_t2i_r1=recalls["t2i_r1"], bag_i2t_r1=recalls["i2t_r1"], bag_rsum=recalls["rsum"]
)

# %% [markdown]
# Numbers are one thing. **Always look at what was retrieved**, too: that shows you in a minute what a table never tells.

# %% tags=["key-figure"]
found = (t2i == 1).nonzero()[:1, 0]
failed = ((t2i > 1) & (t2i <= 5)).nonzero()[:2, 0]
title = "Text to image: the five best pictures, the true one framed in green"
lesson.show(figures.image_gallery(test, scores, [*found.tolist(), *failed.tolist()], title))

# %%
title = "Image to text: the five best captions; ticks mark the image's own"
lesson.show(figures.caption_gallery(test, scores, [0, 1, 2], title))

# %% [markdown]
# Look at the misses in the first of the two figures. The wrong pictures hold many of the caption's *words*, often several
# times over, but in other combinations. To the bag, a teal disc and a white star are the same as a white disc and a teal
# star.

# %% [markdown]
# ## 6. What would a guesser score, and what a perfect reader?
#
# When is a recall good? A number means little without its floor and its [ceiling](../docs/GLOSSARY.md#ceiling). The floor is **[chance](../docs/GLOSSARY.md#chance)**, the recall of a
# shuffled gallery. For a caption that looks for one image among $N$, that is simply $K/N$. For an image that looks for any
# of its $c$ captions among $M = cN$, it is the chance of at least one hit in $K$ draws *without replacement*:
#
# $$ P(\text{hit within } K) = 1 - \frac{\binom{M-c}{K}}{\binom{M}{K}} $$

# %% [markdown] exercise="chance-recall" difficulty=2 minutes=6 points=2
# ### Your turn: chance level of image to text
#
# Write `chance_recall(images, captions_per_image, k)`: R@K of a shuffled gallery of captions, in percent, exactly as in the
# formula. `k` may be larger than the gallery.
#
# <details><summary>Help 1: the idea</summary>
#
# `math.comb(n, k)` counts the ways to choose k of n. How many lists of k captions are there in all, and how many of them
# hold none of the image's own?
# </details>
# <details><summary>Help 2: the trap</summary>
#
# `math.comb(n, k)` is 0 when k is larger than n. Above the line of the fraction that is right: a miss has become impossible.
# Below the line it is a division by zero. How long can a list be at most?
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

# %%
each = len(owner) // len(test)  # captions of an image
for k in (1, 5, 10):
    chance, bag = chance_recall(len(test), each, k), recalls[f"i2t_r{k}"]
    print(f"i2t R@{k:<2d} by chance {chance:.2f} %, the bag {bag:.1f} %")

# %% [markdown]
# The ceiling is more interesting. *“a red star on the grass”* may be true of three pictures in the gallery. Then nobody,
# however clever, can know which one the author had in mind: the best a reader can do is to pick one of the three. On
# photographs we can only guess how often this happens. In our scenes we can hold every caption's meaning against every
# scene, and compute the **exact ceiling**: the recall of a reader who knows all that is true, and nothing else.

# %% tags=["key-figure"]
lesson.compare(
    {"bag of words": recalls},
    metrics=("i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10"),
    title="Between chance and the ceiling: where does the bag stand?",
)
if test.truth is not None:
    several = truth_matrix(test.truth.scenes, test.truth.captions).sum(axis=0) > 1
    lesson.say(
        f"**{100 * several.mean():.0f} % of the captions** are true of more than one of the "
        f"{len(test):,} pictures."
    )
    ceiling = lesson.references()["ceiling"]
    lesson.record(ceiling_t2i_r1=ceiling["t2i_r1"], ceiling_i2t_r1=ceiling["i2t_r1"])

# %% [markdown]
# ## 7. Find the flaw
#
# Can you trust an evaluation that you did not write? It is a program like any other. A wrong one rarely crashes: it gives
# a number, and often a pleasant one. Here are four evaluations of text to image R@1, each with one flaw:
#
# - **ties**: a false picture with the same score stands *behind* the true one;
# - **one caption**: only one caption of each image asks, as if there were no others;
# - **[folds](../docs/GLOSSARY.md#fold)**: the list of images is cut into five parts (*folds*), one after the other. Each part is a gallery of its own, and
#   only the best of the five results is reported;
# - **misses**: only the ten best pictures are looked at. A caption whose image is not among them keeps the rank 0 that its
#   variable began with, and since 0 is at most 1, this counts as a hit.
#
# The last one is real: lesson 05 finds it in the released code of its paper. Here is what each flaw does for the bag, and
# for a **[collapsed](../docs/GLOSSARY.md#collapse)** model, which gives every pair the same score.


# %%
def your_evaluation(scores, owner):
    return float(recall_at_k(image_ranks(scores, owner), 1))


evaluations = {
    "yours": your_evaluation,
    "ties": flawed.ties_for_the_model,
    "one caption": flawed.one_caption_each,
    "folds": flawed.best_of_five_folds,
    "misses": flawed.misses_as_hits,
}
collapsed = torch.full_like(scores, 0.5)
for name, evaluate in evaluations.items():
    bag, nothing = evaluate(scores, owner), evaluate(collapsed, owner)
    print(f"{name:12s} bag of words {bag:5.1f}   collapsed model {nothing:5.1f}")
lesson.record(tie_inflation=flawed.ties_for_the_model(scores, owner) - recalls["t2i_r1"])

# %% [markdown]
# A collapsed network with 100 % recall would pass for a breakthrough. And a reader who is shown the best fold never learns
# of the other four.
#
# So how do you find a flaw in an evaluation when you see only its numbers? You feed it **cases of your own making**: so
# small that you know the right answer without any program, and built so that one flaw changes it.

# %% [markdown] exercise="find-the-flaw" difficulty=4 minutes=14 points=4
# ### Your turn: a detective
#
# Write `find_the_flaw(evaluate)`. It is handed an evaluation with one of the four flaws, or with none. It calls
# `evaluate(scores, image_of_caption)` with small tensors that you make up, and returns the name of the flaw as it stands
# above, or `"none"`. The check brings evaluations that you have not seen.
#
# Beware: a case for one flaw may expose another one, too. In a gallery of two pictures, for example, each fold holds at most
# one picture, which always wins.
#
# <details><summary>Help 1: the idea</summary>
#
# Make one case for each flaw. Take the flaw *misses*: you need captions whose image is *not* among the ten best. How many
# pictures must the gallery have at least? What must R@1 be, and what does the flaw make of it?
# </details>
# <details><summary>Help 2: four cases</summary>
#
# - *misses*: every false picture scores more than the true one.
# - *folds*: one false picture scores more than the true one, and stands far from it in the gallery.
# - *ties*: all scores are the same.
# - *one caption*: each image has two captions, and for some image only one of the two finds it.
#
# With one caption for each image, `torch.eye(12)` is the score matrix of a perfect model: start from it.
# </details>
# <details><summary>Help 3: the order</summary>
#
# For each of your cases, work out what *all four* flawed evaluations say. If a case exposes two of them, first ask another
# case, one that exposes only one of the two. Or make the case larger, or smaller.
# </details>


# %% solution="find-the-flaw"
def find_the_flaw(evaluate):
    """Which flaw an evaluation has: "ties", "one caption", "folds", "misses" or "none".

    evaluate(scores, image_of_caption) gives R@1 from text to image: (N, M), (M,) ints -> percent.
    find_the_flaw(your_evaluation) is "none".
    """
    ### BEGIN SOLUTION
    perfect, each = torch.eye(12), torch.arange(12)
    # Every true picture comes last, at rank 12.
    if evaluate(1 - perfect, each) > 0:
        return "misses"
    # One rival beats it, 6 pictures away.
    if evaluate(perfect + 2 * perfect.roll(6, dims=0), each) > 0:
        return "folds"
    if evaluate(torch.ones(12, 12), each) > 0:
        return "ties"
    # Captions 0 and 1 are image 0's, and caption 1 prefers the other: three of four are right.
    four = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0]])
    return "none" if evaluate(four, torch.tensor([0, 0, 1, 1])) == 75 else "one caption"
    ### END SOLUTION


# %% check="find-the-flaw"
find_the_flaw = check("find-the-flaw", find_the_flaw)

# %% [markdown]
# Now let it loose on the four, and on your own evaluation.

# %% tags=["nbval-check-output"]
for name, evaluate in evaluations.items():
    print(f"{name:12s} -> {find_the_flaw(evaluate)}")

# %% [markdown]
# ## 8. How large is the gallery?
#
# One difference between evaluations is no flaw, and matters as much as one. Finding a picture among 100 is easier than
# finding it among 1,000: that is why the folds paid off. How much easier? Here is the same score matrix, cut down to ever
# smaller galleries.


# %% tags=["key-figure"]
def in_a_gallery_of(size):
    """Recalls among `size` pictures, drawn by lot, and their captions."""
    rows = torch.from_numpy(np.sort(rng.permutation(len(test))[:size]))
    columns = torch.isin(owner, rows)
    return recalls_of(scores[rows][:, columns], torch.searchsorted(rows, owner[columns]))


rng = np.random.default_rng(seed)
sizes = [n for n in (10, 20, 50, 100, 200, 500) if n < len(test)] + [len(test)]
draws = {n: [in_a_gallery_of(n) for _ in range(max(1, min(20, 2000 // n)))] for n in sizes}
draws[len(test)] = [recalls]
title = "The same scores in galleries of different sizes"
labels = [f"{n:,}" for n in sizes]
lesson.show(figures.recall_against(draws, "images in the gallery", title, labels))
small = np.mean([draw["t2i_r1"] for draw in draws[10]])
lesson.say(
    f"Among 10 pictures: t2i R@1 **{small:.1f}**. Among {len(test):,}: **{recalls['t2i_r1']:.1f}**."
)
lesson.record(t2i_r1_gallery_10=small)

# %% [markdown]
# So a recall says nothing without the size of its gallery. The field's sizes are 1,000 images (Flickr8k, Flickr30k, and COCO
# 1K, which is the *mean* over five folds) and 5,000 (COCO 5K), always with five captions for each image.

# %%
lesson.clock()

# %% [markdown]
# ## 9. Not all misses are alike: NDCG
#
# R@K knows only hits and misses. But if you ask for *“a red star above a striped circle”* and get another red star above
# another striped circle, you are nearly happy. How can a metric say so? **NDCG** (normalised discounted cumulative gain)
# takes a relevance $r \ge 0$ of every candidate (more than yes or no) and adds it up along the ranking, where later ranks
# count less. Then it divides by the best possible sum. With $r_{\text{rank}}$ for the candidate at a rank:
#
# $$ \mathrm{DCG@}k = \sum_{\text{rank}=1}^{k} \frac{r_{\text{rank}}}{\log_2(\text{rank} + 1)} \qquad \mathrm{NDCG@}k = \frac{\mathrm{DCG@}k}{\text{DCG@}k \text{ of the best order}} $$
#
# Where does the relevance come from? In our scenes we know what each caption says: its **[scene graph](../docs/GLOSSARY.md#scene-graph)** is its objects, their
# attributes and their relations. The relevance of an image to a caption says how far the caption's graph agrees with the
# graphs of the image's own captions. It is an F-score, the harmonic mean of precision and recall. On photographs it has to
# be estimated from the captions: TERAN (lesson 02) uses [ROUGE-L](../docs/GLOSSARY.md#rouge-l), which compares sequences of words, and SPICE, which
# compares scene graphs that a parser reads out of the sentences. Like TERAN, we take $k = 25$.

# %% tags=["nbval-check-output"]
# The relevance of three candidates, in the order in which a model ranked them.
gains = torch.tensor([3.0, 0.0, 2.0])
discounts = 1 / torch.log2(torch.tensor([2.0, 3.0, 4.0]))
best = gains.sort(descending=True).values @ discounts
print("discounts", discounts)
print(f"DCG {float(gains @ discounts):.4f}, best order {float(best):.4f}")

# %% [markdown] exercise="ndcg" difficulty=3 minutes=9 points=3
# ### Your turn: NDCG@k
#
# Write `ndcg(scores, relevance, k)`: NDCG@k of each query, and then the mean over the queries. Both matrices have a row for
# each query and a column for each candidate. You may assume that no two scores of a query are equal, and that every query
# has something relevant. The gallery may be smaller than $k$.
#
# <details><summary>Help 1: the idea</summary>
#
# Each query needs two DCGs: one with the relevance in the order of the scores, one with the relevance of *all* candidates in
# its own best order. Both stop at k. Divide query by query, and take the mean at the end.
# </details>
# <details><summary>Help 2: the pieces</summary>
#
# `order = scores.argsort(dim=1, descending=True)` says which candidate stands first, second, ...; `relevance.gather(1, order)`
# reads the relevance along that order. Logarithms: `torch.log2`.
# </details>
# <details><summary>Help 3: the traps</summary>
#
# Rank 1 is divided by log2(2), which is 1; log2(1) would be 0. Make the discounts as long as the list that is left after
# cutting, and of the relevance's own dtype: a product of tensors needs one kind of number.
# </details>


# %% solution="ndcg"
def ndcg(scores, relevance, k):
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
ndcg = check("ndcg", ndcg)

# %% [markdown]
# The bag's scores do tie. The rule of section 4 holds here, too: among equal scores, the least relevant stands first. So we
# sort by score and then by relevance, and give your function new scores without ties, made from that order.

# %%
if test.truth is not None:
    relevance = graph_relevance(test.truth.scenes, test.truth.captions, test.image_of_caption)
    order = torch.from_numpy(np.lexsort((relevance, -scores.numpy()), axis=0))
    # Scores without ties: 0 for the first, then -1, -2, ...
    untied = -order.argsort(dim=0).double()
    relevance = torch.from_numpy(relevance).double()
    chance = torch.rand(untied.T.shape, dtype=torch.float64)
    bag, guess = (float(ndcg(s, relevance.T, 25)) for s in (untied.T, chance))
    print(f"text to image, NDCG@25: bag of words {bag:.3f}, random order {guess:.3f}")
    lesson.record(bag_ndcg=bag)
else:
    print("Photographs have no scene graphs: lesson 02 estimates relevance from captions.")

# %% [markdown]
# ## 10. Where the bag fails, exactly
#
# Does a model know which word goes with which? One last measurement answers that, and the whole course comes back to it.
# **[Twins](../docs/GLOSSARY.md#twins)** are two pictures that differ in one thing, each with a caption of its own. In a *swap* two objects have exchanged
# their colours or textures, so that both captions have the same words. In a *replacement* (the control) an attribute has
# changed to one that was nowhere in the picture. For each caption we ask: does its own picture score higher than the twin?
# Chance is 50 %. In this forced choice between two, a tie counts one half: whoever sees no difference can only toss a coin.

# %%
for kind, probe in splits.probes.items():
    accuracy = evaluation.pair_accuracy(bag_scores(probe))["image"]
    print(f"{kind:9s} {accuracy:5.1f} % of captions prefer their own picture")
    lesson.record(**{f"bag_{kind}": accuracy})
if splits.probes:
    swaps = splits.probes["swaps"]
    title = "A swap: same things, same words, equal scores"
    lesson.show(figures.pair_figure(swaps, bag_scores(swaps), 0, title))
else:
    print("Nobody made twins of photographs: run this section on the scenes.")

# %% [markdown]
# On swaps, the bag with its perfect eyes can only guess. What is missing is **[binding](../docs/GLOSSARY.md#binding)**: which attribute belongs to which
# object.
#
# **Next.** The bag was told what is in a picture; it learnt nothing. Lesson 01 trains the first real model: a network that
# turns a picture into *one* vector. Does it beat the bag? And does it know which colour goes with which shape?
#
# ## What you should have seen
#
# | what | where | what it showed |
# | --- | --- | --- |
# | score matrix | section 2 | every method ends in $S$, images × captions |
# | rank with five captions | section 4 | best own caption counts; ties against the model |
# | chance and ceiling | section 6 | a recall lies between them; captions are ambiguous, and we know by how much |
# | four flaws | section 7 | a collapsed model at 100 %; small cases of your own expose each flaw |
# | size of the gallery | section 8 | the fewer pictures there are, the better the same model looks |
# | NDCG | section 9 | the nearly right counts, too |
# | twins | section 10 | a bag of words is at exactly 50 % on swaps, with perfect eyes |
#
# ## Three questions
#
# <details><summary>Some captions are true of several pictures. Why does that lower the ceiling of text to image, but not that of image to text?</summary>
#
# An ambiguous caption has one image to find, and nothing tells that image from the others. An image needs only one of its
# five captions, and the perfect reader puts first those that are true of no other image.
# </details>
# <details><summary>Your model scores R@1 = 100 in both directions after one epoch. What do you look at first?</summary>
#
# The scores. If they are all alike, the rule for ties is wrong (or missing). If they differ, count the images in the
# gallery, and see whether the ground truth has leaked into the features.
# </details>
# <details><summary>Model A has the higher R@1, model B the higher NDCG@25. Which one do you ship for a picture search?</summary>
#
# It depends on whether people look for one known picture (A) or for something that fits (B). Most people scroll: a list
# that is full of nearly right pictures serves them better than one exact hit followed by noise.
# </details>
#
# ## Further reading
#
# - M. Hodosh, P. Young, J. Hockenmaier. *Framing image description as a ranking task.* JAIR 47, 2013. Flickr8k, and ranking as evaluation.
# - P. Young, A. Lai, M. Hodosh, J. Hockenmaier. *From image descriptions to visual denotations.* TACL 2, 2014. Flickr30k.
# - A. Karpathy, L. Fei-Fei. *Deep visual-semantic alignments for generating image descriptions.* CVPR 2015. The splits everybody uses.
# - P. Anderson et al. *Bottom-up and top-down attention for image captioning and visual question answering.* CVPR 2018. Detected regions.
# - K. Järvelin, J. Kekäläinen. *Cumulated gain-based evaluation of IR techniques.* ACM TOIS 20(4), 2002. DCG and NDCG.
# - P. Anderson, B. Fernando, M. Johnson, S. Gould. *SPICE: semantic propositional image caption evaluation.* ECCV 2016.
# - T. Thrush et al. *Winoground: probing vision and language models for visio-linguistic compositionality.* CVPR 2022.

# %%
lesson.clock()
lesson.finish()
