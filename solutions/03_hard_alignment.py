# %% [markdown] run_minutes=3
# # 03 · Hard alignment: attend to all regions, or take the best one
#
# In lesson 02 each word took its best region and threw the others away. Is that a waste? SCAN (2018) thought so. It lets a word *attend* to all regions at once, and compares the word with their mixture. CHAN (2023) goes back to the best region, and says why: the mixture collects what does not belong to the word.
# Here you write both, train with what you wrote, and put the argument to the test.
#
# **At the end you can**
#
# - read [attention](../docs/GLOSSARY.md#attention) as *coding*, and write the [soft code](../docs/GLOSSARY.md#soft-code) and the [hard code](../docs/GLOSSARY.md#hard-code) of a word;
# - pool codes into a score without [overflow](../docs/GLOSSARY.md#overflow);
# - measure how many regions a word looks at, and what more background does to that;
# - find out why a number moves when it should stay put;
# - write the gradient of hard codes by hand, and say why it is cheap.
#
# **Time** about {{minutes}} minutes with all 7 exercises. **You need** lessons 01 and 02.

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
from itr_lib import data as datasets, evaluation, figures, objectives, similarity
from itr_lib.checks import check, library
from itr_lib.inference import encode, score
from itr_lib.lessons import background, open_lesson, recipes, timing

# %%
lesson = open_lesson(
    "03_hard_alignment", profile=profile, device=device, seed=seed, data=data, root=root
)
splits, tokenizer = lesson.load()
test = splits.test

# %% [markdown]
# ## 1. Soft: a word in a picture's terms
#
# How do you say what a word means *in this picture*? One answer: describe the word by the picture's regions. A set of vectors that describes other vectors is called a **[codebook](../docs/GLOSSARY.md#codebook)**, and what comes out is a **code**. Here the picture's regions are the codebook. Each word of a caption gets one code: a number that says how well the picture covers it.
#
# The regions $v_0, v_1, \dots$ and the words $w_0, w_1, \dots$ have length 1, and $A_{rt} = v_r \cdot w_t$ is the alignment matrix of lesson 02.
#
# **Soft coding** (SCAN). Each word spreads its *attention* over the regions. The weights $a_{rt}$ mix the regions into the **[attended vector](../docs/GLOSSARY.md#attended-vector)** $\hat v_t$, and the code is its cosine with the word:
#
# $$ a_{rt} = \frac{e^{A_{rt} / \tau}}{\sum_{q} e^{A_{qt} / \tau}} \qquad \hat v_t = \sum_r a_{rt} \, v_r \qquad s_t = \frac{w_t \cdot \hat v_t}{\lVert \hat v_t \rVert + 10^{-8}} $$
#
# The lower the **temperature** $\tau$, the pickier the word. The $10^{-8}$ only guards against dividing by 0.

# %%
angle = np.deg2rad([80, 35, -10])
regions = np.stack([np.cos(angle), np.sin(angle)], axis=1)
word = np.array([np.cos(np.deg2rad(22)), np.sin(np.deg2rad(22))])
title = "As τ falls: from nearly the mean of the regions to nearly the best one"
lesson.show(figures.attended_vectors(regions, word, (2, 0.3, 0.1, 0.03), title))

# %% [markdown]
# The attended vector lies *inside* the circle: a mixture of different unit vectors is shorter than 1. Hence the division by its length. Without it a word would score low for being undecided, and that is not the same as being wrong.

# %% tags=["nbval-check-output"]
v = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])  # three regions
w = torch.tensor([[1.0, 0.0]])  # one word
a = (v @ w.T / 0.5).softmax(dim=0)
attended = a.T @ v
print("attention at τ = 0.5:", [round(x, 2) for x in a[:, 0].tolist()])
print(
    f"length {attended.norm():.3f}, soft code {(attended @ w.T).item() / attended.norm():.3f}"
)

# %% [markdown] exercise="soft-codes" difficulty=2 minutes=9 points=3
# ### Your turn: soft codes
#
# Write `soft_codes(regions, words, region_mask, temperature)` for one picture: from regions $(R, D)$, words $(W, D)$ and a mask $(R,)$, True at real regions, to the codes $(W,)$. At least one region is real. Padded regions get no attention, at any temperature. Words have length 1; take the regions as they come. A blank picture, all of whose regions are zero vectors, gives codes of 0. A model will be trained through your function, so keep to torch.
#
# <details><summary>Help 1: the idea</summary>
#
# Three lines, one for each formula: the weights, the attended vectors of all words at once, the codes. Each word has a *column* of $A$, so ask yourself over which dim the softmax runs.
# </details>
# <details><summary>Help 2: the mask</summary>
#
# What must get no weight needs a logit (a number before the softmax) of minus infinity. The mask has one number a region: give it a second axis. And remember that `masked_fill` fills where its mask is True.
# </details>
# <details><summary>Help 3: shapes</summary>
#
# The attended vectors are the transposed weights times the regions: $(W, R)$ times $(R, D)$. For their dot products with the words, multiply entry by entry and add up over $D$.
# </details>


# %% solution="soft-codes"
def soft_codes(regions, words, region_mask, temperature):
    """Cosine of each word with its mixture of regions: (R, D), (W, D), (R,) bool, float -> (W,).

    Regions [[1, 0], [.8, .6], [0, 1]], all real, the word [[1, 0]] and temperature 0.5: [0.944].
    """
    ### BEGIN SOLUTION
    A = regions @ words.T
    logits = (A / temperature).masked_fill(~region_mask[:, None], -torch.inf)
    attended = logits.softmax(dim=0).T @ regions
    return (attended * words).sum(dim=1) / (attended.norm(dim=1) + 1e-8)
    ### END SOLUTION


# %% check="soft-codes"
soft_codes = check("soft-codes", soft_codes)

# %% [markdown]
# A mixture can do something odd. Here are two regions that each fit the word $(1, 0)$ only so-so:

# %% tags=["nbval-check-output"]
v = torch.tensor([[0.8, 0.6], [0.8, -0.6]])
both = torch.tensor([True, True])
print("alignments", [round(x, 2) for x in (v @ w.T)[:, 0].tolist()])
print(f"soft code {soft_codes(v, w, both, 0.1).item():.1f}")

# %% [markdown]
# No region scores above 0.8, and the mixture scores 1.0. The error of one cancels the error of the other. Two half-right regions can pass for a right one that is not in the picture.
#
# ## 2. Hard: one region
#
# Let the temperature go to zero. All attention falls on one region, the attended vector *is* that region, and the code is
#
# $$ s_t = \max_r A_{rt} $$
#
# So lesson 02's maximum is the sharpest of all attentions. Here is the way there, for the word and the regions of the drawing:

# %% tags=["nbval-check-output"]
v, w = torch.from_numpy(regions), torch.from_numpy(word)[None]
for tau in (2, 0.3, 0.1, 0.03, 0.003):
    code = soft_codes(v, w, torch.ones(3, dtype=torch.bool), tau).item()
    print(f"τ = {tau:<5}  soft code {code:.3f}")
print(f"          hard code {(v @ w.T).max():.3f}")

# %% [markdown]
# On the way the mixture even beats the best region: errors cancel, as above.
#
# You wrote that maximum in lesson 02. What is new is to ask *who wins*. The winner is what a figure shows and what receives the gradient. Two regions can be level: a detector may hand out the same box twice. Then the first one counts, so that the answer does not depend on chance.

# %% [markdown] exercise="best-regions" difficulty=2 minutes=6 points=2
# ### Your turn: which region wins?
#
# Write `best_regions(alignments, region_mask)`: from the alignments $(N, M, R, W)$ of $N$ pictures with $M$ captions, and the pictures' masks $(N, R)$, to the place of each word's winner, $(N, M, W)$. Places count all $R$ regions from 0, padding included. Padding never wins; every picture has a real region. Of regions that are level, the first wins. Alignments may be any numbers.
#
# <details><summary>Help 1: the idea</summary>
#
# Make padding lose first. Then ask for the place of the largest number along the axis of the regions.
# </details>
# <details><summary>Help 2: the mask</summary>
#
# The mask belongs to pictures and regions, axes 0 and 2 of four. What loses against *every* number, also where all alignments are negative?
# </details>
# <details><summary>Help 3: the places</summary>
#
# `argmax` gives places, and of level ones the first. If you cut padded regions out instead of making them lose, the places of the others shift.
# </details>


# %% solution="best-regions"
def best_regions(alignments, region_mask):
    """The first of the best real regions of each word: (N, M, R, W), (N, R) bool -> (N, M, W) long.

    Alignments [[[[.3, -.9], [.8, -.2], [.8, -.4]]]] of one pair, all regions real: [[[1, 1]]].
    """
    ### BEGIN SOLUTION
    real = region_mask[:, None, :, None]
    return alignments.masked_fill(~real, -torch.inf).argmax(dim=2)
    ### END SOLUTION


# %% check="best-regions"
best_regions = check("best-regions", best_regions)

# %% [markdown]
# A hard code is then the alignment that stands in the winner's place. The choice has no gradient; the chosen number has one.


# %%
def hard_codes(regions, words, region_mask):
    """Each word's alignment with the region you choose: (N, R, D), (M, W, D), (N, R) -> (N, M, W)."""
    A = torch.einsum("nrd,mwd->nmrw", regions, words)
    winners = best_regions(A.detach(), region_mask)
    return A.gather(2, winners[:, :, None])[:, :, 0]


# %% [markdown]
# ## 3. From codes to a score
#
# A caption has one code a word. How do they become one score? Lesson 02 added them up. There is more to choose from:
#
# | pooling | score | |
# | --- | --- | --- |
# | sum | $\sum_t s_t$ | TERAN's MrSw, when the codes are hard |
# | mean | $\frac{1}{W} \sum_t s_t$ | long captions do not collect more |
# | lse | $\log \sum_t e^{s_t / \beta}$ | *[log-sum-exp](../docs/GLOSSARY.md#log-sum-exp)*, CHAN's choice, $\beta = 0.1$ |
# | softmax | $\sum_t \frac{e^{s_t / \beta}}{\sum_u e^{s_u / \beta}} \, s_t$ | a mean that listens to the large codes |
#
# Log-sum-exp has a trap. Written as it stands, it **overflows**:

# %% tags=["nbval-check-output"]
codes = torch.tensor([0.95, 0.90])
for beta in (0.1, 0.01):
    print(f"β = {beta:<5} log(sum(exp)) {torch.log(torch.exp(codes / beta).sum()):.3f}")

# %% [markdown]
# $e^{95}$ is too large for float32. The remedy is to take the largest code $m$ out first. That changes nothing on paper, and no exponent is above 0 any more:
#
# $$ \log \sum_t e^{s_t / \beta} = \frac{m}{\beta} + \log \sum_t e^{(s_t - m) / \beta} \qquad m = \max_t s_t $$

# %% [markdown] exercise="pool-codes" difficulty=3 minutes=10 points=3
# ### Your turn: three poolings
#
# Write `pool_codes(codes, word_mask, how, beta)`: from codes $(N, M, W)$ and the captions' masks $(M, W)$ to scores $(N, M)$, for `how` in `"mean"`, `"lse"`, `"softmax"`. Padded words take no part, whatever stands there; every caption has a real word. Nothing overflows, and nothing becomes $\log 0$, however high or low the codes are.
#
# <details><summary>Help 1: the idea</summary>
#
# Padding must add nothing. In a sum, 0 adds nothing. In a sum of exponentials, it is the number whose exponential is 0. So you need two fillings of the same codes.
# </details>
# <details><summary>Help 2: who takes out the maximum</summary>
#
# `torch.logsumexp` and `torch.softmax` do it by themselves. By hand, take the largest of the *pair's own real* codes, and do not forget to add $m / \beta$ back.
# </details>
# <details><summary>Help 3: the trap</summary>
#
# A weight of 0 times a code of $-\infty$ is NaN. In `"softmax"` the weights come from one filling, and the codes that they weigh from the other.
# </details>


# %% solution="pool-codes"
def pool_codes(codes, word_mask, how, beta):
    """Codes of the real words to one score a pair: (N, M, W), (M, W) bool, str, float -> (N, M).

    Codes [[[.9, .8, .5, -.1]]], all real, beta 0.1: "lse" [[9.327]] ("mean" [[0.525]], "softmax" [[0.868]]).
    """
    ### BEGIN SOLUTION
    low, zero = codes.masked_fill(~word_mask, -torch.inf), codes.masked_fill(~word_mask, 0)
    if how == "mean":
        return zero.sum(dim=-1) / word_mask.sum(dim=-1)
    if how == "lse":
        return (low / beta).logsumexp(dim=-1)
    return ((low / beta).softmax(dim=-1) * zero).sum(dim=-1)
    ### END SOLUTION


# %% check="pool-codes"
pool_codes = check("pool-codes", pool_codes)

# %% [markdown]
# What is the difference? Ask each pooling how much it would gain if one word's code rose a little. That is its gradient:

# %% tags=["nbval-check-output"]
codes = torch.tensor([[[0.9, 0.8, 0.5, -0.1]]], requires_grad=True)  # of four words
for how in ("mean", "lse", "softmax"):
    pooled = pool_codes(codes, torch.ones(1, 4, dtype=torch.bool), how, 0.1)
    push = torch.autograd.grad(pooled.sum(), codes)[0].flatten().tolist()
    print(f"{how:8s} score {pooled.item():5.2f}   gradient", [round(x, 2) + 0.0 for x in push])

# %% [markdown]
# The mean pushes all words alike. Log-sum-exp pushes in proportion to $e^{s_t / \beta}$: the best covered words most, but more than one of them. Softmax even pushes some bad words *down*, to take weight from them.
#
# Log-sum-exp counts in units of $\beta$: a code that rises by 0.05 moves the score by up to 0.5. So the margin of 0.5 that we train with is a small one.
#
# ## 4. Train CHAN on your functions
#
# You have all of CHAN's score now. The model that makes the vectors stands in `itr_lib/models/chan.py`: lesson 01's text encoder, its small network for each region, and *no* transformer over the regions. **[Size augmentation](../docs/GLOSSARY.md#size-augmentation)** comes on top: each training step leaves out a fifth of the regions, and hides, changes or drops a fifth of the words. So the model cannot lean on any one of them.


# %%
def chan_scores(images, captions, tau=None):
    """Scores (N, M) by your functions: hard codes, or soft ones at a temperature, pooled by log-sum-exp."""
    words = captions.vectors[captions.mask]  # the real words of all captions in a row
    if tau is None:
        each = hard_codes(images.vectors, words[None], images.mask)[:, 0]
    else:
        each = [soft_codes(v, words, real, tau) for v, real in zip(*images, strict=True)]
        each = torch.stack(each)
    codes = words.new_zeros(len(images.mask), *captions.mask.shape)
    codes[:, captions.mask] = each
    return pool_codes(codes, captions.mask, "lse", 0.1)


recipe = recipes.chan(profile, data, seed)
margin, warmup = recipe.objective.margin, recipe.objective.warmup_epochs


def objective(model, batch, epoch, tau=None):
    """Lesson 01's hinge on your scores: all negatives at first, then the hardest one of each query."""
    images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)
    S = chan_scores(images, captions, tau)
    negatives, same = "all" if epoch < warmup else "hardest", batch.same_image
    return objectives.triplet_loss(
        S, margin=margin, negatives=negatives, same_image=same
    ) / len(S)


# %%
model = recipe.build(splits.train, tokenizer).to(lesson.device)
history = lesson.train(model, objective, recipe.training, label="CHAN")
title = "CHAN on your hard codes: training loss, and recall on the validation split"
lesson.show(figures.training_curves({"CHAN": history.epochs}, title))

# %% [markdown]
# For all pairs of the test split we use the library's `similarity.alignment_scores(..., coding="hard", pooling="lse")`, which packs as you did in lesson 02. Does it agree with your functions?

# %%
images, captions = encode(model, tokenizer, test, device=lesson.device)
few, some = images._make(x[:8] for x in images), captions._make(x[:40] for x in captions)
gap = (chan_scores(few, some) - model.scores(few, some)).abs().max()
print(f"your scores and the library's differ by at most {gap:.0e}")
scores, metrics = lesson.test(model)
lesson.record(t2i_r1=metrics.t2i_r1, i2t_r1=metrics.i2t_r1, rsum=metrics.rsum)

# %% [markdown]
# **Hard or soft?** Here is the paper's claim in one comparison. Encoders, data, epochs, pooling and margin are the same; only the coding differs. A third model is trained with hard codes but without size augmentation.

# %% tags=["key-figure"]
rows = {"CHAN, this run": metrics, "hard codes": "CHAN (hard, lse)", "soft codes": "soft, lse"}
rows |= {"hard, no augmentation": "no augmentation"}
title = "The same encoders with hard codes, soft codes, and without size augmentation"
lesson.compare(rows, metrics=("i2t_r1", "t2i_r1", "t2i_r10"), title=title)

# %% [markdown]
# A difference counts when it is larger than the spread of the seeds. Text to image, R@1 is {{t2i_r1: CHAN (hard, lse)}} with hard codes and {{t2i_r1: soft, lse}} with soft ones: soft codes are a little ahead with every seed. The paper reports *better* recall for hard codes, on photographs. Here that does not show.
#
# Size augmentation adds little: without it R@1 is {{t2i_r1: no augmentation}}. It guards against learning the training set by heart, and the five epochs of these runs leave little time for that.
#
# So why argue for the maximum? Look at where attention goes.

# %%
lesson.clock()

# %% [markdown]
# ## 5. Where attention goes
#
# CHAN's argument against soft coding is that **a softmax never says no**. A region that does not matter gets a small weight, and there are many such regions. Here is one word of a caption, and where it looks in its picture:

# %%
questions = datasets.questions_of(splits, tokenizer)
align = figures.aligner(test, images, captions, tokenizer)
found = (
    scores.argmax(dim=0).numpy() == test.image_of_caption
)  # captions that find their picture
if questions is None:
    caption, t = int(found.argmax()), 0
else:
    q = int((found[questions.caption] & (questions.kind != "size")).argmax())
    caption, t = int(questions.caption[q]), int(questions.start[q]) - 1  # [CLS] is no word
shown = int(test.image_of_caption[caption])
pieces, matrix = align(shown, caption)
A = torch.from_numpy(matrix[:, t])
weights = {f"soft, τ = {tau}": (A / tau).softmax(dim=0) for tau in (0.1, 0.02)}
winner = best_regions(A[None, None, :, None], A.isfinite()[None]).item()
weights["hard"] = torch.eye(len(A))[winner]
if test.open_picture is not None:
    title = f"The softer the coding, the more “{pieces[t]}” looks at"
    lesson.show(figures.attention_boxes(test, shown, pieces[t], weights, title))

# %% [markdown]
# How many regions does the word use? Counting weights above zero does not help: under a softmax all of them are. The **[entropy](../docs/GLOSSARY.md#entropy)** $H = -\sum_r a_r \log a_r$ measures how spread out weights are, and $e^{H}$ (the *perplexity*) turns it into a number of regions. $n$ equal weights give exactly $n$, one weight of 1 gives 1.

# %% [markdown] exercise="regions-used" difficulty=2 minutes=8 points=2
# ### Your turn: how many regions does a softmax use?
#
# Write `regions_used(alignments, temperature)`. A row of `alignments` $(Q, R)$ holds one word's alignments with the regions of its picture, minus infinity where there is no region. Return for each row the number $e^{H}$ of regions that its attention uses at this temperature, $(Q,)$. It must hold at a temperature of 0.003, too.
#
# <details><summary>Help 1: the idea</summary>
#
# First the attention, a softmax over each row. Then its entropy. Then `exp`.
# </details>
# <details><summary>Help 2: the trap</summary>
#
# Weights of 0 come with minus infinity and with low temperatures, and $0 \cdot \log 0$, which is meant to be 0, comes out as NaN. `torch.xlogy(x, y)` is $x \log y$, and 0 where $x$ is 0.
# </details>


# %% solution="regions-used"
def regions_used(alignments, temperature):
    """exp of the entropy of each row's attention: (Q, R), float -> (Q,).

    Alignments [[.5, .5, .5, .5], [.9, .7, .7, -inf]] at temperature 0.1: [4, 1.946].
    """
    ### BEGIN SOLUTION
    weights = (alignments / temperature).softmax(dim=1)
    return (-torch.xlogy(weights, weights).sum(dim=1)).exp()
    ### END SOLUTION


# %% check="regions-used"
regions_used = check("regions-used", regions_used)

# %% [markdown]
# What does the temperature do to it?

# %%
for tau in (1, 0.3, 0.1, 0.03, 0.01, 0.003):
    print(
        f"τ = {tau:<5}  “{pieces[t]}” looks at {regions_used(A[None], tau).item():4.1f} regions"
    )

# %% [markdown]
# Now an experiment that only a world of our own making allows. Take test pictures and keep only the boxes that show an object. Then add 4 to 32 boxes of background, drawn anywhere in the same picture and seen by the same detector. For words of shape and colour we know the right boxes, so we can ask three things. What share of a word's attention falls on them? How many regions does the word look at? And what is R@1 among these pictures? The dotted line, *evenly*, is a word that attends to every region alike.

# %%
COUNTS = (0, 4, 16, 32)
CODINGS = {"hard": None, "soft, τ = 0.02": 0.02, "soft, τ = 0.1": 0.1}


def attention(A, tau):
    """Attention and number of regions of each row of alignments (Q, R), minus infinity: no region."""
    if tau == "evenly":
        return A.isfinite() / A.isfinite().sum(dim=1, keepdim=True), A.isfinite().sum(dim=1)
    if tau is not None:
        return (A / tau).softmax(dim=1), regions_used(A, tau)
    winners = best_regions(A[:, None, :, None], A.isfinite())[:, 0, 0]
    return torch.eye(A.shape[1])[winners], torch.ones(len(A))


def background_worlds(few):
    """The pictures of a split with their boxes on objects alone, and with more and more background."""
    bare = replace(few, region_mask=few.truth.region_object >= 0)
    return [datasets.with_background(few, count) if count else bare for count in COUNTS]


# %%
@torch.no_grad()
def look(model, world):
    """By coding: share on right regions (%), regions used, text to image R@1, and the scores."""
    images, captions = encode(model, tokenizer, world, device=lesson.device)
    words = datasets.scene_questions(world, tokenizer, kinds=("shape", "colour"))
    pairs = *images, *captions, world.image_of_caption
    A = torch.from_numpy(evaluation.question_alignments(*pairs, words))
    seen, right = {}, torch.from_numpy(words.right)
    for name, tau in (CODINGS | {"evenly": "evenly"}).items():
        a, used = attention(A, tau)
        seen[name] = [100 * float((a * right).sum(dim=1).mean()), float(used.float().mean())]
        if name == "evenly":
            seen[name] += [np.nan, None]
            continue
        blocks = [images._make(x[i : i + 8] for x in images) for i in range(0, len(world), 8)]
        S = torch.cat([chan_scores(block, captions, tau) for block in blocks]).cpu()
        seen[name] += [evaluation.retrieval_metrics(S, world.image_of_caption).t2i_r1, S]
    return seen


def table(looks):
    """By coding the three numbers, a row a count."""
    return {name: np.array([seen[name][:3] for seen in looks], float) for name in looks[0]}


# %% tags=["key-figure"]
LABELS = ("attention on the right object (%)", "regions used", "text to image R@1 (%)")
if test.truth is not None:
    some = test.take(np.arange({"smoke": 24, "quick": 200, "full": 500}[profile]))
    worlds = background_worlds(some)
    looks = [look(model, world) for world in worlds]
    measured = table(looks)
    title = "Trained with hard codes: what more boxes of background do"
    lesson.show(figures.background_curves(COUNTS, measured, LABELS, title))
    soft, hard = measured["soft, τ = 0.1"], measured["hard"]
    lesson.record(soft_share_4=soft[1, 0], soft_share_32=soft[-1, 0], hard_share_32=hard[-1, 0])
    lesson.record(soft_regions_4=soft[1, 1], soft_regions_32=soft[-1, 1])
    lesson.say(
        f"From 4 to 32 boxes of background, attention at τ = 0.1 on the right object falls from {soft[1, 0]:.0f} "
        f"to {soft[-1, 0]:.0f} %, on {soft[1, 1]:.1f} and then {soft[-1, 1]:.1f} regions; hard attention goes "
        f"from {hard[1, 0]:.0f} to {hard[-1, 0]:.0f} %. R@1 with hard codes: {hard[0, 2]:.1f} without background, "
        f"{hard[1, 2]:.1f} with 4 boxes, {hard[-1, 2]:.1f} with 32."
    )
else:
    print("Boxes of background need a world in which everything is known: run the scenes.")

# %% [markdown]
# Hard attention barely notices the added boxes: as long as the best region stays the best, a hundred others change nothing. Soft attention at $\tau = 0.1$ loses a good part of its share: every box of background gets a little, and the little adds up. A low temperature helps, because it comes close to a maximum. This is the paper's argument, and so far it holds.
#
# ## 6. A rise that should not be there
#
# Look again at R@1 with hard codes. It should stay where it is, but it *rises*, most from no box to four. No added box shows an object, so how can it help? When a number moves that should stay put, find out why before you go on.
#
# A first guess: the boxes are not quite empty. The experiment calls a box background when its IoU (lesson 02) with every object is below 0.5, so some of them show parts of objects. We tried boxes that touch no object at all. With 4 of those in each picture R@1 is {{clear_4_hard_t2i_r1: CHAN (hard, lse)}}; with 4 of the experiment's, {{background_4_hard_t2i_r1: CHAN (hard, lse)}}; without background, {{background_0_hard_t2i_r1: CHAN (hard, lse)}}. So that is not it.
#
# A second guess: look at what the captions *say*.

# %%
if test.truth is not None:
    grounds = [
        any(word.kind == "ground" for word in said.words) for said in some.truth.captions
    ]
    group = torch.tensor(grounds).long()  # 1: the caption names the ground
    for row in np.flatnonzero(grounds)[:3]:
        print("  ", some.captions[row])
    lesson.say(f"{100 * np.mean(grounds):.0f} % of these captions name the ground.")

# %% [markdown]
# *Against a brick wall* asks for a box that shows bricks. To test this guess, split the number: R@1 of the captions that name the ground, and R@1 of the others.

# %% [markdown] exercise="recall-by-group" difficulty=2 minutes=9 points=3
# ### Your turn: one number, split
#
# Write `recall_by_group(scores, image_of_caption, group)`: from the scores $(N, M)$ of pictures with captions, each caption's picture $(M,)$, and each caption's group $(M,)$, numbered from 0, to R@1 from text to image in each group, in percent. A caption is a hit when its own picture scores above every other; a wrong picture that is level makes a miss. Every group has a caption, and groups differ in size.
#
# <details><summary>Help 1: the idea</summary>
#
# First decide for each caption whether it is a hit, groups aside. Then average the hits within each group.
# </details>
# <details><summary>Help 2: levels</summary>
#
# `argmax` cannot tell a level rival from a lower one. Compare two numbers: the score of the caption's own picture, and the best among the *others*, with its own left out.
# </details>
# <details><summary>Help 3: averages</summary>
#
# The mean over `hit[group == g]`, for each `g`. A bool has no mean: make it a float first.
# </details>


# %% solution="recall-by-group"
def recall_by_group(scores, image_of_caption, group):
    """Text to image R@1 (%) of each group of captions: (N, M), (M,) int, (M,) int -> (groups,).

    Scores [[.9, .2, .1, .6], [.3, .8, .7, .5]], pictures [0, 1, 0, 0], groups [0, 0, 1, 1]: [100, 50].
    """
    ### BEGIN SOLUTION
    caption = torch.arange(scores.shape[1], device=scores.device)
    others = scores.clone()
    others[image_of_caption, caption] = -torch.inf
    hit = scores[image_of_caption, caption] > others.amax(dim=0)
    return torch.stack(
        [100 * hit[group == g].to(scores).mean() for g in range(group.max() + 1)]
    )
    ### END SOLUTION


# %% check="recall-by-group"
recall_by_group = check("recall-by-group", recall_by_group)

# %% tags=["key-figure"]
if test.truth is not None:
    owner = torch.from_numpy(some.image_of_caption)
    by_group = {
        name: np.array(
            [recall_by_group(seen[name][3], owner, group).tolist() for seen in looks]
        )
        for name in CODINGS
    }
    panels = ("R@1 (%), ground not named", "R@1 (%), ground named")
    title = "The same R@1, split by what the captions say"
    lesson.show(figures.background_curves(COUNTS, by_group, panels, title))
    without, names = by_group["hard"].T
    lesson.say(
        f"Hard codes, captions that name the ground: {names[0]:.1f} without background, {names[1]:.1f} with 4 boxes, "
        f"{names[-1]:.1f} with 32. The others: {without[0]:.1f}, {without[1]:.1f} and {without[-1]:.1f}."
    )

# %% [markdown]
# There it is. The rise belongs to the captions that name the ground: without a box of background, those words found nothing to align with. For the other captions hard codes stay nearly level, and soft attention at $\tau = 0.1$ loses more than the mixed number showed. The claim was right; the number that was to show it mixed two things.
#
# ## 7. Be fair: train with soft codes, too
#
# One thing is still unfair. This model was trained with hard codes. Nothing ever asked it to push background far down, only below the best region. A model trained with soft codes *pays* for what its attention catches. What does it learn from that? The record of section 4's models says:

# %% tags=["key-figure"]
if test.truth is not None:
    hard, soft = (lesson.runs(variant) for variant in ("CHAN (hard, lse)", "soft, lse"))
    read = {"hard, read hard": (hard, "hard"), "hard, read at τ = 0.1": (hard, "soft")}
    read |= {"soft, read at τ = 0.1": (soft, "soft")}
    kept = {f"trained {name}": background.recorded_curves(*how) for name, how in read.items()}
    panels = *LABELS[:2], "R@1 (%), ground not named"
    title = "Trained with hard and with soft codes: means of the recorded seeds"
    lesson.show(figures.background_curves(background.COUNTS, kept, panels, title))

# %% [markdown]
# | at τ = 0.1, one number a seed | trained with hard codes | trained with soft codes |
# | --- | --- | --- |
# | attention on the right object, no background (%) | {{seeds background_0_soft_share: CHAN (hard, lse)}} | {{seeds background_0_soft_share: soft, lse}} |
# | with 32 boxes of background | {{seeds background_32_soft_share: CHAN (hard, lse)}} | {{seeds background_32_soft_share: soft, lse}} |
# | regions used, with 32 boxes | {{seeds background_32_soft_regions: CHAN (hard, lse)}} | {{seeds background_32_soft_regions: soft, lse}} |
# | R@1, ground not named, 4 boxes (%) | {{seeds background_4_soft_t2i_r1_objects: CHAN (hard, lse)}} | {{seeds background_4_soft_t2i_r1_objects: soft, lse}} |
# | with 32 boxes | {{seeds background_32_soft_t2i_r1_objects: CHAN (hard, lse)}} | {{seeds background_32_soft_t2i_r1_objects: soft, lse}} |
# | mean alignment with regions of the right object | {{seeds background_32_alignment_right: CHAN (hard, lse)}} | {{seeds background_32_alignment_right: soft, lse}} |
# | with 32 boxes of background | {{seeds background_32_alignment_ground: CHAN (hard, lse)}} | {{seeds background_32_alignment_ground: soft, lse}} |
#
# The model trained with soft codes has learnt to look away. It pushes background down: those boxes align with words of shape and colour far less than in the model trained with hard codes. So it keeps more of its attention on the object, though not all, and its recall hardly falls any more.
#
# So both are true: attention leaks, more with every box, and training finds a way round the leak. Only a measurement can say which matters more, and in section 4 soft codes lost no recall.
#
# The next cell trains such a model on your `soft_codes`. On the quick profile it is off, for it takes a few minutes: set `train_soft = True`.

# %%
train_soft = profile != "quick"
if train_soft and test.truth is not None:
    soft_recipe = replace(recipe, model=replace(recipe.model, coding="soft"))
    soft_model = soft_recipe.build(splits.train, tokenizer).to(lesson.device)
    lesson.train(
        soft_model, lambda *step: objective(*step, tau=0.1), recipe.training, label="soft"
    )
    title = "Trained with your soft codes: what more boxes of background do"
    soft_looks = table([look(soft_model, world) for world in worlds])
    lesson.show(figures.background_curves(COUNTS, soft_looks, LABELS, title))

# %%
lesson.clock()

# %% [markdown]
# ## 8. The gradient of a maximum touches one region
#
# In recall hard codes win nothing here. They do win in *work*, and the reason is their gradient. Take one pair. Let $g_t = \partial L / \partial s_t$ be the gradient that reaches the code $s_t$, and $r^*(t)$ the winner of word $t$. A maximum passes its gradient on to the winner alone, and since $A_{rt} = v_r \cdot w_t$,
#
# $$ \frac{\partial L}{\partial v_r} = \sum_{t \,:\, r^*(t) = r} g_t \, w_t \qquad\qquad \frac{\partial L}{\partial w_t} = g_t \, v_{r^*(t)} $$
#
# Each word pulls at one region, its winner. With soft codes every word pulls at *every* region:

# %% tags=["nbval-check-output"]
v = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], requires_grad=True)
w, real = torch.tensor([[0.8, 0.6], [0.28, 0.96]]), torch.ones(1, 3, dtype=torch.bool)
winners = best_regions((v @ w.T).detach()[None, None], real)[0, 0]
print("regions that win the two words:", winners.tolist())
coded = {"hard": hard_codes(v[None], w[None], real), "soft": soft_codes(v, w, real[0], 0.1)}
print("gradient of the summed codes with respect to the three regions:")
for name, codes in coded.items():
    gradient = torch.autograd.grad(codes.sum(), v)[0]
    print(f"  {name} codes", [[round(x, 2) for x in row] for row in gradient.tolist()])

# %% [markdown] exercise="hard-backward" difficulty=3 minutes=10 points=4
# ### Your turn: the backward pass by hand
#
# Write `hard_backward(regions, words, winners, grad)` without autograd: regions $(R, D)$, words $(W, D)$, each word's winner $(W,)$, and `grad` $(W,)$, the $g_t$ of the formulas. Return one tensor $(R + W, D)$: the gradient with respect to the regions, and below it the gradient with respect to the words.
#
# <details><summary>Help 1: the idea</summary>
#
# The words' part is one indexing and one product. The regions' part is a sum: several words may share a winner, and some regions win no word.
# </details>
# <details><summary>Help 2: adding up</summary>
#
# `x[winners] += rows` keeps only the last row where a winner comes twice. `x.index_add(0, winners, rows)` adds every time. A loop over the words does, too.
# </details>
# <details><summary>Help 3: putting them together</summary>
#
# `torch.cat` puts tensors one below the other, the regions' part first. To give each row of a matrix its own factor, the factors need a second axis: `grad[:, None]`.
# </details>


# %% solution="hard-backward"
def hard_backward(regions, words, winners, grad):
    """Gradients of sum_t grad[t] A[winners[t], t]: (R, D), (W, D), (W,), (W,) -> (R + W, D), regions first.

    Regions [[1, 0], [0, 1], [.6, .8]], words [[.8, .6], [.28, .96]], winners [2, 1], grad [1, .5]:
    [[0, 0], [.14, .48], [.8, .6], [.6, .8], [0, .5]].
    """
    ### BEGIN SOLUTION
    by_regions = torch.zeros_like(regions).index_add(0, winners, grad[:, None] * words)
    return torch.cat([by_regions, grad[:, None] * regions[winners]])
    ### END SOLUTION


# %% check="hard-backward"
hard_backward = check("hard-backward", hard_backward)

# %% [markdown]
# Does it agree with autograd on a real batch? And how sparse is the gradient: how few alignments does it reach? Take a training batch and an untrained model.

# %%
fresh = recipe.build(splits.train, tokenizer).to(lesson.device).eval()
tokens, size = datasets.tokenise(tokenizer, splits.train.captions), recipe.training.batch_size
order = datasets.epoch_order(splits.train.image_of_caption, size, np.random.default_rng(seed))
batch = datasets.pair_batch(splits.train, tokens, next(order), lesson.device)
with torch.no_grad():
    regions, words = fresh.encode_images(batch.images), fresh.encode_captions(batch.captions)
    winners = best_regions(
        torch.einsum("nrd,mwd->nmrw", regions.vectors, words.vectors), regions.mask
    )
v, w = (x.vectors.clone().requires_grad_(True) for x in (regions, words))
codes = hard_codes(v, w, regions.mask)
codes.retain_grad()
S = pool_codes(codes, words.mask, "lse", 0.1)
objectives.triplet_loss(S, margin=margin, same_image=batch.same_image).backward()

# %%
mine = torch.zeros_like(v), torch.zeros_like(w)
pairs = codes.grad.any(dim=2).nonzero().tolist()
for n, m in pairs:
    both = hard_backward(v[n].detach(), w[m].detach(), winners[n, m], codes.grad[n, m])
    mine[0][n] += both[: v.shape[1]]
    mine[1][m] += both[v.shape[1] :]
gaps = [float((x - y).abs().max()) for x, y in zip(mine, (v.grad, w.grad), strict=True)]
dense = int(regions.mask.sum()) * int(words.mask.sum())
touched = sum(int(words.mask[m].sum()) for _, m in pairs)
print(f"yours and autograd's differ by at most {max(gaps):.0e}")
print(
    f"{len(pairs):,} of {S.numel():,} pairs get a gradient (the loss), and 1 region a word (the maximum):"
)
print(f"{touched:,} of {dense:,} alignments, 1 in {dense / touched:,.0f}")
lesson.record(gradient_sparsity=dense / touched)

# %% [markdown]
# Two savings multiply. The hinge with the hardest negative gives a gradient only to the true pairs and a few rivals. In each of those pairs, the maximum hands it to one region a word. The library does what you did: the class `_HardCodes` in `itr_lib/similarity/hard_and_soft.py` remembers the winners, and never builds a matrix that is nearly all zeros.
#
# ## 9. What softness costs
#
# Both codings need all alignments: one product of all regions with all words. Soft coding then needs an attended vector, $D$ numbers, *for each word and each picture*. Making these vectors is a second product as large as the first, and they take $D$ times the memory of the codes.
#
# But the code does not need the vector itself, only its dot product with the word and its length. The dot product is $\sum_r a_{rt} A_{rt}$, from numbers that we have. And the length? Multiply out:
#
# $$ \lVert \hat v_t \rVert^2 = \Big\lVert \sum_r a_{rt} v_r \Big\rVert^2 = \sum_r \sum_s a_{rt} \, a_{st} \, (v_r \cdot v_s) = a_t^\top G \, a_t \qquad G_{rs} = v_r \cdot v_s $$
#
# $G$ is the **[Gram matrix](../docs/GLOSSARY.md#gram-matrix)** of the picture, the dot products of its regions with each other: $R \times R$ numbers, made once for all captions. A length then costs $R^2$ multiplications instead of $R D$.

# %% [markdown] exercise="attended-length" difficulty=3 minutes=9 points=3
# ### Your turn: a length without its vector
#
# Write `attended_length(weights, gram)`: from weights $(N, R, W)$ and the pictures' Gram matrices $(N, R, R)$ to the lengths of the attended vectors $(N, W)$. You do not get the regions themselves: they may have any length, and may cancel each other. The weights may have any sum. Keep to torch: the bill below asks for gradients.
#
# <details><summary>Help 1: the idea</summary>
#
# $a_t^\top G \, a_t$ for all words at once: $G a$ is one batched product with the shape of the weights. Then each column is multiplied with its own $a_t$ and added up over the regions.
# </details>
# <details><summary>Help 2: not every word with every word</summary>
#
# `weights.mT @ gram @ weights` gives each word with *each* word, $(N, W, W)$. You need its diagonal only, so multiply entry by entry instead.
# </details>
# <details><summary>Help 3: the trap</summary>
#
# A sum that is 0 on paper can come out as $-10^{-9}$, whose root is NaN. A `clamp` *before* the root settles it.
# </details>


# %% solution="attended-length"
def attended_length(weights, gram):
    """Lengths of the attended vectors from Gram matrices: (N, R, W), (N, R, R) -> (N, W).

    Weights [[[.5], [.3], [.2]]] and G [[[1, .8, 0], [.8, 1, .6], [0, .6, 1]]]: [[0.8319]].
    """
    ### BEGIN SOLUTION
    square = (weights * (gram @ weights)).sum(dim=1)
    return square.clamp(min=0).sqrt()
    ### END SOLUTION


# %% check="attended-length"
attended_length = check("attended-length", attended_length)

# %% [markdown]
# Now the bill, for all pairs of one batch: each way forward, then forward and backward through the hinge. The unit of time is the bare product of all regions with all words. The last column is the memory that must be *kept* for the backward pass.


# %%
def soft_by_gram(v, w, tau=0.1):
    """Soft codes without attended vectors, on your lengths: (N, R, D), (M, W, D) -> (N, M, W)."""
    A = v @ w.flatten(0, 1).T
    a = (A / tau).softmax(dim=1)
    codes = (a * A).sum(dim=1) / (attended_length(a, v @ v.mT) + 1e-8)
    return codes.unflatten(1, w.shape[:2])


B, D = {"smoke": (16, 64), "quick": (64, 512), "full": (128, 1024)}[profile]
g = torch.Generator().manual_seed(seed)
v, w = (
    similarity.l2_normalise(torch.randn(B, many, D, generator=g)).to(lesson.device)
    for many in (36, 13)
)
real = torch.ones(B, 36, dtype=torch.bool, device=lesson.device)
with torch.no_grad():
    unit = timing.best_time(lambda: v.flatten(0, 1) @ w.flatten(0, 1).T)

# %% tags=["key-figure"]
ways = {
    "hard, yours": lambda v, w: hard_codes(v, w, real).sum(dim=2),
    "hard, library": similarity.alignment_scores,
    "soft, yours, attended vectors": lambda v, w: torch.stack(
        [soft_codes(one, w.flatten(0, 1), real[0], 0.1) for one in v]
    ).unflatten(1, w.shape[:2]).sum(dim=2),
    "soft, yours, Gram matrix": lambda v, w: soft_by_gram(v, w).sum(dim=2),
    "soft, library": lambda v, w: similarity.alignment_scores(v, w, coding="soft"),
}  # fmt: skip
bill = timing.bill(ways, (v, w), objectives.triplet_loss, unit)
bill

# %%
forward, both, kept = bill.loc["hard, library"]
vectors, gram = (bill.loc[f"soft, yours, {how}"] for how in ("attended vectors", "Gram matrix"))
lesson.say(
    f"Hard codes in the library cost {forward:.1f} bare products forward and {both:.1f} with the way back, and keep "
    f"{kept:.1f} MiB. Soft codes with attended vectors: {vectors.iloc[0]:.1f}, {vectors.iloc[1]:.1f} and "
    f"{vectors.iloc[2]:.1f} MiB; with your Gram matrix {gram.iloc[0]:.1f}, {gram.iloc[1]:.1f} and {gram.iloc[2]:.1f} MiB."
)

# %% [markdown]
# Done the plain way, soft coding pays for its attended vectors in time and, above all, in memory. The Gram matrix saves most of that. A fair comparison of two ideas needs the *good* version of both: beside a slow soft coding, hard coding looks better than it is.
#
# ## 10. Do words find their regions?
#
# Is the best region the right one? As in lesson 02, read the answer between two marks: chance, and the *detector ceiling*, a reader who understands every caption and sees through the same imperfect detector.

# %%
if questions is not None:
    encoded = *images, *captions, test.image_of_caption
    told = {"CHAN, this run": evaluation.pointing_accuracy(*encoded, questions)}
    if test.truth is not None:
        told["detector ceiling"] = evaluation.detector_ceiling(test, questions)
    kinds = [kind for kind in told["CHAN, this run"] if kind != "chance"]
    print(f"{len(questions):,} questions; chance {told['CHAN, this run']['chance']:.1f} %")
    for name, values in told.items():
        print(f"{name:17s}", *(f"{kind} {values[kind]:.1f}" for kind in kinds), sep="   ")
    lesson.record(pointing=told["CHAN, this run"]["all"])
else:
    print("Nobody knows which region a word means here: run the scenes, or entities.")

# %% [markdown]
# Colour and shape come closest to the ceiling. Size and texture vary wildly between seeds: size {{pointing_size: CHAN (hard, lse)}} % with hard codes, {{pointing_size: soft, lse}} % with soft ones, at nearly the same recall. So the score hardly needs these words to find their object. A likely reason: the word next to them names it already. A model that is only asked which caption fits which picture may use a word in any way that helps, or in none.
#
# And the twins, pictures that differ in who has which colour?

# %%
for kind, probe in splits.probes.items():
    choices = evaluation.pair_accuracy(score(model, tokenizer, probe, device=lesson.device))
    print(f"{kind}: {choices['image']:.1f} % of captions prefer their own picture (chance 50)")
    lesson.record(**{kind: choices["image"]})
if test.open_picture is not None:
    others = [i for i in range(7) if i != shown]
    title = "Point at a word: its best region, and the runners-up that soft coding would mix in"
    figures.explorer(test, align, images=[shown, *others], title=title)

# %% [markdown]
# The regions of this model never see each other, and still it tells *red circle, blue square* from *blue circle, red square*. It can, because the score compares before it pools. The word *red*, next to *circle* in its caption, becomes a vector that asks for a red circle, and such a region is there or it is not.
#
# Soft codes could take two half-right regions for a right one. On the swaps this does no visible harm: {{swaps: soft, lse}} % with soft codes, {{swaps: CHAN (hard, lse)}} % with hard ones.
#
# ## What you should have seen
#
# Scenes, quick profile, three seeds, lowest to highest.
#
# | what | text to image R@1 | image to text R@1 | swapped twins | pointing, shape |
# | --- | --- | --- | --- | --- |
# | CHAN: hard codes, log-sum-exp | {{t2i_r1: CHAN (hard, lse)}} | {{i2t_r1: CHAN (hard, lse)}} | {{swaps: CHAN (hard, lse)}} | {{pointing_shape: CHAN (hard, lse)}} |
# | soft codes, log-sum-exp | {{t2i_r1: soft, lse}} | {{i2t_r1: soft, lse}} | {{swaps: soft, lse}} | {{pointing_shape: soft, lse}} |
# | hard codes, no augmentation | {{t2i_r1: no augmentation}} | {{i2t_r1: no augmentation}} | {{swaps: no augmentation}} | {{pointing_shape: no augmentation}} |
#
# Soft attention leaks into the background, a model trained with it learns to live with that, and its recall is no lower. What hard coding saves is work.
#
# **What comes next.** Every loss so far compares a query with the other pairs of its batch, 128 at most here, and looks for the hardest among so few. What if the rival that matters is not in the batch? Lesson 04 keeps the vectors of earlier batches in a [queue](../docs/GLOSSARY.md#queue), and asks what more negatives are worth.
#
# ## Three questions
#
# <details><summary>Can a soft code be larger than the hard code of the same word?</summary>
#
# Yes: section 1 has an example, 1.0 against 0.8. The attended vector is divided by its length, so regions that err in opposite directions cancel each other's errors. A hard code can never exceed the best region.
# </details>
# <details><summary>A picture gets 100 more boxes, all of background. What happens to the hard code of a word, at best and at worst? And to its gradient?</summary>
#
# At best nothing: the maximum stays where it was. At worst one of the new boxes happens to score higher, and the code rises to that. It can only rise, never fall, and for wrong pictures that is the danger. The gradient goes to one region, as before.
# </details>
# <details><summary>Why is the gradient of hard codes sparse with the hinge on hardest negatives, and less so with InfoNCE?</summary>
#
# The hinge gives a gradient to at most $3B$ of the $B^2$ pairs: the diagonal, and a rival for each query in each direction. InfoNCE gives one to every pair, so only the saving of the maximum remains: one region a word instead of all $R$.
# </details>
#
# ## Further reading
#
# - Z. Pan, F. Wu, B. Zhang. *Fine-grained image-text matching by cross-modal hard aligning network.* CVPR 2023, 19275-19284. CHAN.
# - K.-H. Lee, X. Chen, G. Hua, H. Hu, X. He. *Stacked cross attention for image-text matching.* ECCV 2018. SCAN. It also sets negative cosines to 0 and rescales them first; the course uses the plain form.
# - J. Chen, H. Hu, H. Wu, Y. Jiang, C. Wang. *Learning the best pooling strategy for visual semantic embedding.* CVPR 2021. Size augmentation.
# - P. Anderson, X. He, C. Buehler, D. Teney, M. Johnson, S. Gould, L. Zhang. *Bottom-up and top-down attention for image captioning and visual question answering.* CVPR 2018. Where the 36 boxes come from.

# %%
lesson.clock()
lesson.finish()
