# %% [markdown] run_minutes=5
# # 05 · Two readings of one network: TGDT, CMC, and a search in two stages
#
# Lesson 04 ended with a question. One vector a picture makes a query fast. Words and regions find far more, but they must be aligned with *every* picture, and that is slow. Is there no way to have both?
#
# There is: read one network twice. Read as one vector a picture, it looks through the whole gallery and makes a **shortlist**. Read as words and regions, it puts the shortlist in order. The network is TGDT (2023), the *[token-guided](../docs/GLOSSARY.md#token-guidance) dual transformer*.
#
# **At the end you can**
#
# - search in two stages;
# - give an [honest rank](../docs/GLOSSARY.md#honest-rank) to a query whose match is not in the shortlist;
# - read one network at two levels, and say where its gradients flow;
# - train a vector with [CMC](../docs/GLOSSARY.md#consistent-multimodal-contrastive-loss), a loss that compares pictures with captions, and each side with itself;
# - choose the length of a shortlist from measurements;
# - run a search engine made of your own functions.
#
# **Time** about {{minutes}} minutes with all exercises. **You need** lessons 01 and 02; lesson 00 gave the metrics.

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
import torch.nn.functional as F

from itr_lib import evaluation, figures, inference, objectives, similarity
from itr_lib.checks import check, library
from itr_lib.data import caption_batch, pair_batch, tokenise, unknown_words
from itr_lib.lessons import leaderboard, open_lesson, recipes, timing

# %%
lesson = open_lesson(
    "05_tgdt_cmc", profile=profile, device=device, seed=seed, data=data, root=root
)
splits, tokenizer = lesson.load()
test = splits.test

# %% [markdown]
# ## 1. What a query costs
#
# A caption asks $N$ pictures. With one vector of $D$ numbers a picture, that takes $N D$ multiplications. With $R$ regions a picture and $W$ words in the caption, it takes $N R W D$: hundreds of times as many.
#
# In two stages:
#
# 1. Score all $N$ pictures by their vectors. This is the **[global](../docs/GLOSSARY.md#global-score)** score.
# 2. Take the first $K$ of them, the shortlist. Order *them* anew by global + $w$ · **[local](../docs/GLOSSARY.md#local-score)**: the local score is MrSw of words and regions (lesson 02), and $w$ is its weight. The other pictures follow, in their global order.

# %%
figure = figures.two_stage_diagram(
    title="The second stage reorders the shortlist, and never sees the rest"
)
lesson.show(
    figure,
    alt=(
        "Above, 14 items in their global order, the first 5 dark. Below, the first 5 in a new "
        "order and the other 9 as they were."
    ),
)
D, R, W = 128, 28, 14  # about what our scenes have
for N in (1_000, 25_000, 1_000_000):
    costs = {"one vector": N * D, "two stages": N * D + 50 * R * W * D, "all": N * R * W * D}
    print(f"N = {N:9,d}", *(f"{name} {cost:.0e}" for name, cost in costs.items()), sep="   ")

# %% [markdown]
# Here the shortlist holds 50 pictures. The cost of the second stage does not depend on $N$: the larger the gallery, the less it counts.
#
# First we need words and regions that know each other. The next cell trains them, as TERAN was trained in lesson 02. They are the local half of TGDT, its **branches**. This takes a few minutes; read on meanwhile.

# %%
branches, on_top = recipes.tgdt_in_turn(profile, data, seed)
model = branches.build(splits.train, tokenizer).to(lesson.device)
history = lesson.train(
    model.local, branches.objective, branches.training, label="words and regions"
)

# %% [markdown]
# Now encode the test pictures and their captions. `read` returns the encoded pictures, the encoded captions, and a matrix of scores, a row a caption, for each kind of score that you name. Here we name the local one.
#
# The global half is not trained yet. In place of its vectors we take the simplest there are: the mean of a picture's regions, and the mean of a caption's words.


# %%
@torch.no_grad()
def read(split, *kinds):
    """Images, captions, and their scores of each kind, (captions, images); all on the CPU."""
    sides = inference.encode(model, tokenizer, split, device=lesson.device)
    scores = [kind(*sides).float().cpu().T for kind in kinds]
    return *(side._make(part.cpu() for part in side) for side in sides), *scores


def with_means(side):
    """The same side; its vectors are means of real tokens, at length 1: (n, tokens, D) -> (n, D)."""
    total = (side.vectors * side.mask[..., None]).sum(dim=1)
    return side._replace(whole=F.normalize(total, dim=-1))


images, captions, local = read(test, model.local_scores)
images, captions = with_means(images), with_means(captions)
by_mean = captions.whole @ images.whole.T
truth = torch.as_tensor(test.image_of_caption)

# %% [markdown] exercise="two-stage-search" difficulty=3 minutes=10 points=4
# ### Your turn: two stages
#
# Write `two_stage_search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight)` for one caption. A *whole* is the one vector of a picture or a caption.
#
# - The caption has a vector `query_whole` $(D,)$ and words `query_words` $(W, E)$, without padding.
# - The pictures have vectors `wholes` $(N, D)$, regions $(N, R, E)$ and a mask $(N, R)$, True at real regions. All vectors have length 1.
# - The local score is MrSw: each word takes its best region, and the words are summed.
# - Return the rows of *all* pictures, best first, $(N,)$: the shortlist by global + `local_weight` · local, then the others in their global order.
#
# `shortlist` is $K$, at least 1, and may be larger than $N$. Align the shortlist only.
#
# <details><summary>Help 1: the idea</summary>
#
# Sort all pictures by `wholes @ query_whole`. Cut that order in two at `shortlist`. Sort the first part anew and put the two together.
# </details>
# <details><summary>Help 2: MrSw of the shortlist</summary>
#
# Call the first part `rows`. Index regions *and* mask with it, before you multiply anything. One `einsum` gives a number for each picture, word and region. Padding must not win the maximum: fill it with minus infinity.
# </details>
# <details><summary>Help 3: rows and places</summary>
#
# `argsort` of the new scores gives *places within the shortlist*. Look up there which rows they are.
# </details>


# %% solution="two-stage-search"
def two_stage_search(query_whole, query_words, wholes, regions, mask, shortlist, local_weight):
    """All rows, best first: (D,), (W,E), (N,D), (N,R,E), (N,R) bool, int, float -> (N,) long.

    Query [1, 0] with the word [1, 0]; wholes [1, 0], [.8, .6], [0, 1] with one region each, [0, 1],
    [1, 0], [1, 0]; weight 2: a shortlist of 2 gives [1, 0, 2].
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
# Search with it. Below, a few captions of the test split ask all pictures, with shortlists of several lengths. Where does a caption's own picture come out? Place 0 is the front.


# %%
def search(caption, shortlist, captions, images):
    """Rows of the images, best first, for one of the captions."""
    words = captions.vectors[caption][captions.mask[caption]]
    gallery = images.whole, images.vectors, images.mask
    return two_stage_search(captions.whole[caption], words, *gallery, shortlist, 1.0)


lengths = [k for k in (1, 10, 50, 100, 500) if k < len(test)] + [len(test)]
for caption in range(0, min(40, len(truth)), 10):
    orders = [search(caption, k, captions, images) for k in lengths]
    places = [int((order == truth[caption]).nonzero()) for order in orders]
    print(f"“{test.captions[caption]}”")
    print("   ", ", ".join(f"K = {k}: place {p}" for k, p in zip(lengths, places, strict=True)))

# %% [markdown]
# A picture that is in the shortlist can come to the front. One that is not stays where the vector put it.
#
# In the library: `TwoStageIndex` in `itr_lib/search/`. It can be saved and loaded, takes batches of queries, and keeps its tokens without padding.

# %%
lesson.clock()

# %% [markdown]
# ## 2. The honest rank
#
# How good is this search? Take R@1, the percentage of captions whose picture comes first. But what is the rank of a caption whose picture is *not in the shortlist*?
#
# Here is an evaluation as one would write it in a hurry. It sets up a list of places, all zero. For every query it looks up where the match stands in the reordered shortlist. Then it counts.


# %%
def recall_as_found(global_scores, local_scores, match, shortlist):
    """R@1 of a search in two stages: (Q, N), (Q, N), (Q,) -> percent."""
    places = np.zeros(len(match))
    for q in range(len(match)):
        candidates = np.argsort(-global_scores[q])[:shortlist]
        final = global_scores[q, candidates] + local_scores[q, candidates]
        reordered = candidates[np.argsort(-final)]
        hit = np.flatnonzero(reordered == match[q])
        if len(hit):
            places[q] = hit[0]
    return 100 * np.mean(places < 1)


arrays = by_mean.numpy(), local.numpy(), truth.numpy()
flattering = [recall_as_found(*arrays, k) for k in lengths]
for k, recall in zip(lengths, flattering, strict=True):
    print(f"K = {k:5,d}: text to image R@1 {recall:5.1f} %")

# %% [markdown]
# By these numbers, the *shorter* the shortlist, the better the search. With a shortlist of one it is perfect.
#
# <details><summary>Look at the function before you open this: where is the mistake?</summary>
#
# `places` begins with zeros, and 0 is the *first place*. A caption whose picture is not in the shortlist never gets another number, so it counts as found. With K = 1 the shortlist holds either the match, at place 0, or something else, and then the place stays 0. All captions are hits.
#
# So the worse the first stage, the better the number.
# </details>
#
# This is the flaw *misses* of lesson 00. It is real: in the released evaluation of TGDT, a query whose match is missing from the shortlist has rank 0, a hit at every cutoff.
#
# An honest rank asks what the search returned: the shortlist, and then the others in their global order. A match outside the shortlist keeps its global rank, which is at least $K + 1$.

# %% [markdown] exercise="honest-rank" difficulty=3 minutes=10 points=4
# ### Your turn: ranks of two stages
#
# Write `two_stage_ranks(global_scores, local_scores, truth, shortlist, local_weight)`. It takes two matrices $(Q, N)$, a row a query, and for each query the column of its match, `truth` $(Q,)$. It returns the ranks of the matches $(Q,)$, integers from 1.
#
# - A match inside the shortlist has its rank by global + `local_weight` · local, *among the shortlist*.
# - A match outside has its global rank.
#
# No two scores are equal here. `shortlist` is at least 1 and may be larger than $N$.
#
# <details><summary>Help 1: the idea</summary>
#
# Work out both ranks for every query, and choose with `torch.where`. Or loop over the queries: make the whole order, shortlist first, and look where the match stands in it.
# </details>
# <details><summary>Help 2: places</summary>
#
# One `argsort` tells which candidate comes first, second, and so on. The `argsort` of that tells the place of each candidate: 0 for the best. A candidate is in the shortlist if its global place is below `shortlist`.
# </details>
# <details><summary>Help 3: the rank inside</summary>
#
# Count the candidates that are in the shortlist *and* score higher than the match, and add one. `gather(1, truth[:, None])` takes the match's number from each row.
# </details>


# %% solution="honest-rank"
def two_stage_ranks(global_scores, local_scores, truth, shortlist, local_weight):
    """Ranks from 1: (Q, N), (Q, N), (Q,) long, int, float -> (Q,) long.

    For global [[.9, .5, .1]], local [[0, 1, 2]], truth [2] and weight 1: shortlist 2 gives [3].
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
# In the library: `two_stage_metrics` in `itr_lib/evaluation/two_stage.py`, which takes five captions a picture and decides ties against the model.
#
# How much did the first evaluation flatter? The solid line has the honest ranks.


# %% tags=["key-figure"]
def honest_r1(global_scores, local_scores, truth, shortlist):
    """R@1 in percent, by honest ranks."""
    ranks = two_stage_ranks(global_scores, local_scores, truth, shortlist, 1.0)
    return 100 * float((ranks <= 1).double().mean())


honest = [honest_r1(by_mean, local, truth, k) for k in lengths]
figure = figures.honest_curves(
    lengths,
    {1: honest},
    {1: flattering},
    "One search, evaluated in two ways",
)
lesson.show(figure)

# %% [markdown]
# The gap is the share of captions whose picture is missing from the shortlist.
#
# **Two tests for any evaluation that you write or take over.** Give it a model that knows nothing: it must report chance. And make the search worse: the number must not rise.
#
# So the first stage decides what the second can find. Which vector would bring more matches into the shortlist than a mean does?

# %%
lesson.clock()

# %% [markdown]
# ## 3. Token guidance: a vector made of tokens
#
# A branch of TERAN holds **tokens**: the regions or the words, and at place 0 one token for the whole (`[CLS]` in a caption). It has seen all the others, and takes no part in the local score.
#
# TGDT puts it to use. On each branch it sets two more transformer layers, the **top**. Only the first token that the top returns is used. Brought to length 1, it is the global vector.

# %%
figure = figures.tgdt_diagram(
    "One network, two scores: one from regions and words, one from a first token on each side"
)
lesson.show(
    figure,
    alt=(
        "Two branches, image and caption. Their tokens meet in the local score, MrSw. On top "
        "of each stands another transformer, whose first tokens meet in the global score. A "
        "barrier between tokens and transformer says that no gradient passes down."
    ),
)

# %% [markdown]
# One thing is left to decide. The loss on the global vector sends its gradient down through the top. Does it go on into the branches, or does a **[barrier](../docs/GLOSSARY.md#barrier)** between branch and top stop it? In PyTorch the barrier is one word: `tokens.detach()` holds the same numbers, and no gradient passes through it.

# %% [markdown] exercise="token-guidance" difficulty=2 minutes=6 points=2
# ### Your turn: the global vector
#
# Write `global_vectors(tokens, mask, on_top, detach)`. It takes the tokens of a branch $(B, L, D)$, their mask $(B, L)$ (True = real) and a transformer, and returns vectors of length 1, $(B, D)$.
#
# - `on_top` is called like torch's encoders: `on_top(tokens, src_key_padding_mask=...)`, where that mask is True at *padding*. It returns $(B, L, D)$.
# - With `detach=True` no gradient reaches `tokens`. `on_top` learns in both cases.
#
# <details><summary>Help 1: the idea</summary>
#
# Three steps: detach the tokens or not, call `on_top`, take the first token of each sequence and bring it to length 1.
# </details>
# <details><summary>Help 2: two traps</summary>
#
# Your mask and torch's say opposite things: `~` turns one round. And detach what goes *into* `on_top`: if you detach its result, nothing learns.
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
# From here on the model makes its vectors with that function. (In the library: `global_vectors` and `TGDT` in `itr_lib/models/tgdt.py`.)
#
# Where do gradients flow? Take one batch, and measure the length of the gradient that each loss sends into the branches and into the top.

# %%
model.guidance = global_vectors
few = splits.train.take(np.arange(min(32, len(splits.train))))
one_each = np.unique(few.image_of_caption, return_index=True)[1]  # one caption a picture
batch = pair_batch(few, tokenise(tokenizer, few.captions), one_each, lesson.device)


def gradient_lengths(loss_of_scores, scores_of):
    """Length of the gradient in the branches and in the top, for a loss on one kind of score."""
    sides = model.encode_images(batch.images), model.encode_captions(batch.captions)
    model.zero_grad()
    loss_of_scores(scores_of(*sides)).backward()
    tops = [*model.global_regions.parameters(), *model.global_words.parameters()]
    for part in (list(model.local.parameters()), tops):
        squares = [p.grad.square().sum() for p in part if p.grad is not None]
        yield float(sum(squares)) ** 0.5 if squares else 0.0


print("a gradient's length in      branches      top")
for name, score_of in (("local", model.local_scores), ("global", model.global_scores)):
    reached = gradient_lengths(objectives.info_nce, score_of)
    print(f"a loss on the {name:12s}", *(f"{length:9.3f}" for length in reached))
model.zero_grad()

# %% [markdown]
# Each loss stays on its side of the barrier. The local loss alone shapes the tokens, and the top makes of them what it can. Hence *token-guided*: the vector is made of tokens that have learnt what is where.
#
# We have already used one consequence. *If nothing flows back, the order is free*: we trained the branches first, and the top comes afterwards. Appendix 05a takes the barrier away, and says what that costs.

# %%
lesson.clock()

# %% [markdown]
# ## 4. What should the vector learn? CMC by hand
#
# The hinge of lesson 01 asks about **pairs**. Picture $i$ should be closer to caption $i$ than to caption $j$, by a margin. Once it is, it costs nothing. The hinge says nothing about how close two *pictures* are. Look at three pairs.

# %% tags=["nbval-check-output"]
images3 = torch.tensor([[1.0, 0.0], [4.0, 3.0], [0.0, 1.0]])
captions3 = torch.tensor([[2.0, 0.0], [3.0, 4.0], [-3.0, 4.0]])
S = similarity.cosine_scores(images3, captions3)  # picture i with caption j
V = similarity.cosine_scores(images3, images3)  # picture i with picture j
T = similarity.cosine_scores(captions3, captions3)  # caption i with caption j
for name, matrix in (("S", S), ("V", V), ("T", T), ("|T - V|", (T - V).abs())):
    rows = [
        "  ".join(f"{value:5.2f}" for value in row)
        for row in (matrix.round(decimals=2) + 0.0).tolist()
    ]
    print(f"{name:8s}", ("\n" + 9 * " ").join(rows))

# %% [markdown]
# The **inter-modal** part compares across the two modalities, pictures and captions: $S$. It is the hinge with the hardest negative and margin 0.2. Picture 0 has its caption at 1.00 and the hardest other one at 0.60, so it costs nothing. Picture 1 costs $0.2 + 0.80 - 0.96 = 0.04$, and picture 2 costs $0.2 + 0.80 - 0.80 = 0.20$. The captions, down the columns, cost 0, 0.04 and 0. Together: 0.28.
#
# Pair 0 costs nothing. Is all well with it? Pictures 0 and 2 have nothing in common ($V_{02} = 0$), but their captions point *away* from each other ($T_{02} = -0.6$). The two sides disagree on what is alike, and the hinge cannot see it.
#
# The **intra-modal** part compares within each modality: $V$ and $T$. For each pair $j$ take the partner $i$ on which V and T disagree most. A disagreement of up to 0.3 costs nothing. ($[x]_+$ is $x$ where that is positive, else 0.)
#
# $$ \sum_j \Big[ \max_i \lvert T_{ij} - V_{ij} \rvert - 0.3 \Big]_+ $$
#
# The largest disagreements of the three pairs are 0.6, 0.32 and 0.6, so this part costs $0.3 + 0.02 + 0.3 = 0.62$. Inter-modal plus intra-modal is **CMC**, the *consistent multimodal contrastive* loss: 0.90.

# %% [markdown] exercise="cmc" difficulty=3 minutes=9 points=4
# ### Your turn: CMC
#
# Write `cmc(images, captions, pair_loss, margin)`. It returns one number, the inter-modal plus the intra-modal part.
#
# - `images` and `captions` are $(B, D)$, vectors of any length. Row $i$ of one belongs to row $i$ of the other.
# - `pair_loss` is a function that you are given. It takes the cosines $S$ $(B, B)$, a row a picture, and returns the inter-modal part. Any loss of lesson 01 will do.
# - `margin` is the disagreement that costs nothing in the intra-modal part.
#
# <details><summary>Help 1: the idea</summary>
#
# Bring both sides to length 1. Then three matrix products: $S$, $V$ and $T$.
# </details>
# <details><summary>Help 2: the intra-modal part</summary>
#
# Read the formula from the inside out. The margin stands inside the bracket, so it is subtracted once for each $j$, before anything is cut off at 0.
# </details>
# <details><summary>Help 3: with a gradient</summary>
#
# `amax` and `torch.relu` keep the gradient; `max()` of Python numbers does not.
# </details>


# %% solution="cmc"
def cmc(images, captions, pair_loss, margin):
    """CMC of a batch: (B, D), (B, D), function of (B, B), float -> scalar.

    For images3 and captions3 above, with the hinge above and margin 0.3: 0.28 + 0.62 = 0.90.
    """
    ### BEGIN SOLUTION
    images = torch.nn.functional.normalize(images, dim=-1)
    captions = torch.nn.functional.normalize(captions, dim=-1)
    V, T = images @ images.T, captions @ captions.T
    intra = torch.relu((T - V).abs().amax(dim=0) - margin).sum()
    return pair_loss(images @ captions.T) + intra
    ### END SOLUTION


# %% check="cmc"
cmc = check("cmc", cmc)

# %% [markdown]
# In the library: `cmc_loss` and `consistency_loss` in `itr_lib/objectives/losses.py`.
#
# The paper's loss of the pairs is the hinge. On our scenes, and in as many epochs, a top that learns by the hinge finds {{mean global_t2i_r1: hinge}} %, and one that learns by InfoNCE {{mean global_t2i_r1: TGDT}} %. So we take InfoNCE. It is a mean over the batch, and the intra-modal part is a sum, so the cell multiplies InfoNCE by the batch size, `len(S)`.


# %%
def objective(model, batch, epoch):
    """What trains the top: your CMC with InfoNCE for the pairs, a mean over the batch."""
    images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)

    def pairs(S):
        return len(S) * objectives.info_nce(S, temperature=0.05, same_image=batch.same_image)

    return cmc(images.whole, captions.whole, pairs, 0.3) / len(batch.image_ids)


# %% [markdown]
# ## 5. Train the top
#
# Inside `model.global_alone()` the branches stay as they are, and the model's score is the global one. So this trains your vectors, by your loss, on finished branches.

# %%
with model.global_alone():
    top_history = lesson.train(model, objective, on_top.training, label="the top")
figure = figures.training_curves(
    {"branches (local)": history.epochs, "top (global)": top_history.epochs},
    "The branches first; then the top, on branches that no longer change",
)
lesson.show(figure)

# %% [markdown]
# The branches have not changed, and neither have their local scores. So read only the new vectors.

# %% tags=["key-figure"]
images, captions, whole = read(test, model.global_scores)
levels = {
    "the mean": by_mean,
    "vector": whole,
    "words and regions": local,
    "both": whole + local,
}
found = {
    name: evaluation.retrieval_metrics(scores.T, test.image_of_caption)
    for name, scores in levels.items()
}
lesson.compare(
    found | {"VSE, recorded": "VSE", "TERAN, recorded": "TERAN"},
    title="What each reading finds",
)
lesson.record(
    global_t2i_r1=found["vector"].t2i_r1,
    local_t2i_r1=found["words and regions"].t2i_r1,
    t2i_r1=found["both"].t2i_r1,
    i2t_r1=found["both"].i2t_r1,
    rsum=found["both"].rsum,
)

# %% [markdown]
# All three networks have encoders of one size, and seven passes over the training data. VSE and TERAN spend all seven on their one reading. TGDT spends three on the branches and four on the top.
#
# In the recorded runs TGDT's vector finds {{global_t2i_r1: TGDT}} % text to image, a little less than VSE ({{t2i_r1: VSE}} %). Image to text it finds {{global_i2t_r1: TGDT}} %, as much or more ({{i2t_r1: VSE}} %).
#
# There is one thing that VSE's vector cannot do. **Twins** (lesson 01) are two pictures whose objects have exchanged an attribute: a red circle and a blue square, against a blue circle and a red square. Which of the two does a caption prefer? A guess is right half of the time.

# %%
probe = splits.probes.get("swaps")
if probe:
    _, _, *twins = read(probe, model.global_scores, model.local_scores)
    for name, scores in zip(("vector", "words and regions"), twins, strict=True):
        right = evaluation.pair_accuracy(scores.T)["image"]
        print(f"{name:18s} {right:5.1f} % of captions prefer their own picture")
        lesson.record(**{f"swaps_{'global' if name == 'vector' else 'local'}": right})

# %% [markdown]
# VSE, recorded, has {{swaps: VSE}} %: it only guesses which object has which colour. One vector *can* hold a good part of that. TGDT's is made of tokens that already know it.
#
# And the shortlist? Here are your two stages again, first with the mean of the tokens, then with the trained vector.

# %%
figure = figures.honest_curves(
    lengths,
    {1: [honest_r1(whole, local, truth, k) for k in lengths]},
    {1: honest},
    "Two stages, with two kinds of vector in the first",
    names=("first stage: the trained vector", "first stage: the mean of the tokens"),
)
lesson.show(figure)

# %%
lesson.clock()

# %% [markdown]
# ## 6. How long must a shortlist be?
#
# A longer shortlist misses less and takes longer. So measure both, and choose. Measure on *validation* data: if you choose on the test split, the number that you report for it is too good.

# %%
val_images, val_captions, *val_scores = read(
    splits.val, model.global_scores, model.local_scores
)
val_truth = torch.as_tensor(splits.val.image_of_caption)
candidates = len(splits.val)
tried = [k for k in (2, 5, 10, 20, 50, 100, 200) if k < candidates] + [candidates]
recall = [honest_r1(*val_scores, val_truth, k) for k in tried]

asked = range(0, len(val_truth), max(1, len(val_truth) // 50))
times = [
    timing.milliseconds(lambda c, k=k: search(c, k, val_captions, val_images), asked)
    for k in tried
]
for k, percent, cost in zip(tried, recall, times, strict=True):
    print(f"K = {k:3d}: R@1 {percent:5.1f} %, {cost:5.2f} ms a query")

# %% [markdown] exercise="choose-k" difficulty=2 minutes=8 points=3
# ### Your turn: choose K
#
# Write `choose_k(lengths, recall, milliseconds, candidates, budget, tolerated)`. The first three are lists of one size: entry $i$ of each belongs to one measurement. The lengths may stand in any order. Return one of them:
#
# - A length is *allowed* if it is at most `candidates`, the size of the gallery, and costs at most `budget` milliseconds.
# - Find the best recall among the allowed lengths. Return the *shortest* allowed length that loses at most `tolerated` points of it.
# - If no length is allowed, return 0: no second stage.
#
# <details><summary>Help 1: the idea</summary>
#
# Go through the measurements twice: first for the best recall among those allowed, then for the shortest length that comes near it.
# </details>
# <details><summary>Help 2: traps</summary>
#
# A longer shortlist can find less than a shorter one. The best recall of all may not be allowed. And `max` of an empty list fails.
# </details>


# %% solution="choose-k"
def choose_k(lengths, recall, milliseconds, candidates, budget, tolerated):
    """The shortest length that loses little, or 0: lists of n numbers, int, float, float -> int.

    For lengths [1, 10, 50, 100], recall [40, 60, 62, 62.5], milliseconds [.25, .5, .75, 1.5], 1000
    candidates, a budget of 1 ms and 2 points tolerated it is 10.
    """
    ### BEGIN SOLUTION
    measured = list(zip(lengths, recall, milliseconds, strict=True))
    allowed = [(k, found) for k, found, ms in measured if k <= candidates and ms <= budget]
    if not allowed:
        return 0
    best = max(found for _, found in allowed)
    return min(k for k, found in allowed if found >= best - tolerated)
    ### END SOLUTION


# %% check="choose-k"
choose_k = check("choose-k", choose_k)

# %% [markdown]
# Here are two wishes: at most three quarters of the time that aligning everything takes, and at most half a point of R@1 lost. Change them and look again.

# %%
budget, tolerated = 0.75 * times[-1], 0.5
chosen = int(choose_k(tried, recall, times, candidates, budget, tolerated))
title = "What a longer shortlist finds, and what it takes"
lesson.show(figures.length_choice(tried, recall, times, chosen, title))
K = max(1, chosen * len(test) // candidates)
lesson.say(
    f"Chosen on {candidates:,} pictures: **{chosen}**. For {len(test):,} test pictures: **K = {K}**."
)

# %% [markdown]
# Why a longer shortlist for the test pictures? In a gallery twice as large, twice as many pictures compete with the match for a place in the shortlist. To miss as few matches, the shortlist must grow as the gallery does.
#
# Now, once, the test split: with your K, and with the 50 of the recorded runs.

# %%
fifty = min(50, len(test))
scores = whole.T, local.T, test.image_of_caption
staged = {k: evaluation.two_stage_metrics(*scores, k) for k in (K, fifty)}
lesson.compare(
    {f"K = {k}": metrics for k, metrics in staged.items()}
    | {"everything aligned": found["both"]}
    | {"K = 50, recorded": ("TGDT", "k50"), "everything aligned, recorded": "TGDT"},
    title="Two stages beside aligning everything",
    bars=False,
)
flattered = recall_as_found(whole.numpy(), local.numpy(), truth.numpy(), 10)
lesson.record(inflation_k10=flattered - honest_r1(whole, local, truth, 10))
lesson.record(k50_t2i_r1=staged[fifty].t2i_r1)
for way in ("t2i_r1", "i2t_r1"):
    part, all_of_it = getattr(staged[fifty], way), getattr(found["both"], way)
    lesson.record(**{f"kept_{way[:3]}": 100 * part / all_of_it if all_of_it else 100.0})

# %% [markdown]
# A shortlist of 50 keeps nearly all that aligning everything finds. A match that the vector puts far behind is likely one that words and regions would not have put first either.

# %%
lesson.clock()

# %% [markdown]
# ## 7. Which method should you take?
#
# It depends on what a query may cost. One method **beats** another if it is at least as good in both cost and recall, and better in one of them. The methods that nobody beats are the **[Pareto front](../docs/GLOSSARY.md#pareto-front)**: choose among these.

# %% [markdown] exercise="pareto-front" difficulty=2 minutes=6 points=2
# ### Your turn: the Pareto front
#
# Write `pareto_front(cost, recall)`. It takes two tensors $(n,)$ and returns $(n,)$ bool, True for each method that no other beats. At least as good means: cost no higher, recall no lower. Methods that are equal in both do not beat each other.
#
# <details><summary>Help 1: the idea</summary>
#
# Compare every method $i$ with every method $j$: `cost[:, None] <= cost` is $(n, n)$, True where $i$ costs no more than $j$.
# </details>
# <details><summary>Help 2: who beats whom</summary>
#
# Write down two such tables: in one, $i$ is no worse than $j$ in both; in the other, $i$ is better than $j$ in at least one. Where both are True, $i$ beats $j$. Then ask of each column whether anybody beats it.
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
# Now all models of the course, with encoders of one size, on the same scenes, with seven passes over them. Two systems had more. *Longer branches* is TGDT with seven epochs for the branches instead of three. *VSE, then TERAN* is two networks, one for each stage.

# %% tags=["key-figure"]
board = leaderboard.load_board(data)
if board:
    points = leaderboard.query_costs(board)
    cost, mean_recall = torch.tensor(list(points.values())).T
    front = [
        name for name, on in zip(points, pareto_front(cost, mean_recall), strict=True) if on
    ]
    figure = figures.tradeoff(
        points,
        "Two stages find nearly what aligning everything finds, at a fraction of its time",
        f"milliseconds to rank {board['gallery']:,} pictures",
        "text to image R@1 (%)",
        front=front,
    )
    lesson.show(figure)
    print("beaten by none:", ", ".join(front))

# %% [markdown]
# Read it from the left. Every one-vector model ranks in the same time, since it does the same work. Two stages find nearly what both readings find, in a fraction of the time.
#
# What was timed? One caption at a time asks, and waits for its ten best pictures, as a user would. The pictures' vectors were made ready beforehand, as a search engine keeps them. (Lesson 04's model brings them to length 1 anew for each caption, which takes longer than the products.)
#
# TERAN finds more than TGDT, whose branches had three epochs of the seven. With *longer branches* two stages find {{k50_t2i_r1: longer branches}} %, as much as TERAN with everything aligned ({{t2i_r1: TERAN}} %). This is what the barrier is good for: **on top of a good TERAN you can set a first stage, and the TERAN stays as it is.**
#
# *VSE, then TERAN* finds most, {{k50_t2i_r1: VSE, then TERAN}} %. But it trains two networks, and encodes every picture and every caption twice.
#
# With few pictures and few queries, take TERAN. With many, take two stages. Where memory is short, take one vector.

# %%
lesson.clock()

# %% [markdown]
# ## 8. Your engine
#
# Six lessons, one search engine. Its parts are functions that you wrote. `two_stage_search` and the vectors are from this notebook; three more parts, with which it says *why* it found a picture, are from lessons 00 and 02. Each line below says whether one is yours or the library's.

# %%
cosine_matrix = lesson.answer("cosine-scores")
alignments = lesson.answer("alignments")
mrsw = lesson.answer("mrsw")


# %%
@torch.no_grad()
def encode_sentence(sentence):
    """A sentence as encoded captions of which there is one, on the CPU; and its words as text."""
    batch = caption_batch(tokenise(tokenizer, [sentence]), np.array([0]), lesson.device)
    encoded = model.encode_captions(batch)
    words = tokenizer.convert_ids_to_tokens(batch.ids[encoded.mask].tolist())
    return encoded._make(part.cpu() for part in encoded), words


# %% [markdown]
# Run the cell. Then type a sentence of your own and run it again. (The scenes hold shapes such as stars, discs and squares, in colours, sizes and textures, left of, above or inside each other.)

# %% tags=["key-figure"]
sentence = "a large red star to the left of a blue disc"

if unknown := unknown_words(tokenizer, sentence):
    print("Words that the tokenizer never learnt, and has only in pieces:", ", ".join(unknown))
asked, words = encode_sentence(sentence)
rows = search(0, K, asked, images)[:4]
cosines = cosine_matrix(images.whole[rows], asked.whole)[:, 0]
table = alignments(images.vectors[rows], asked.vectors)  # (4 pictures, 1 sentence, R, W)
aligned = mrsw(table, images.mask[rows], asked.mask)[:, 0]

notes = [f"cosine {c:.2f} + words {a:.2f}" for c, a in zip(cosines, aligned, strict=True)]
if test.open_picture is not None:
    lesson.show(figures.found_pictures(test, rows.tolist(), notes, f"“{sentence}”"))
for row, note in zip(rows.tolist(), notes, strict=True):
    print(f"{note}   {test.image_ids[row]}: {test.captions_of(row)[0]}")

# %% [markdown]
# Why did the first picture come first? Below, a column is a word, and the region that it took is framed. A word that finds nothing has no bright cell in its column.

# %%
first = table[0, 0][images.mask[rows[0]]][:, asked.mask[0]]  # its real regions, the real words
title = "Each word's best region in the first picture"
lesson.show(figures.alignment_heatmap(first, words, title))

# %% [markdown]
# ## What you have now
#
# | idea | in a line | in the library |
# | --- | --- | --- |
# | two stages | a dot product with all pictures, an alignment with K | `TwoStageIndex` |
# | honest rank | a match outside the shortlist keeps its global rank | `two_stage_metrics` |
# | token guidance | the global vector is made of the local tokens | `global_vectors`, `TGDT` |
# | the barrier | each loss stays on its side; the top may come later | `detach`, `global_alone` |
# | CMC | pairs belong together, and both sides agree on what is alike | `cmc_loss` |
# | choosing K | measure on validation; K grows with the gallery | `shortest_shortlist` |
# | Pareto front | the methods that nobody beats in cost and recall | `evaluation.pareto_front` |
#
# ## What you should have seen
#
# Scenes, quick profile, 1,000 test pictures; three seeds, lowest to highest.
#
# | what | text to image R@1 | image to text R@1 | swapped twins |
# | --- | --- | --- | --- |
# | one vector (VSE) | {{t2i_r1: VSE}} | {{i2t_r1: VSE}} | {{swaps: VSE}} |
# | TGDT, its vector | {{global_t2i_r1: TGDT}} | {{global_i2t_r1: TGDT}} | {{global_swaps: TGDT}} |
# | TGDT, two stages, K = 50 | {{k50_t2i_r1: TGDT}} | {{k50_i2t_r1: TGDT}} | |
# | TGDT, everything aligned | {{t2i_r1: TGDT}} | {{i2t_r1: TGDT}} | {{swaps: TGDT}} |
# | TERAN | {{t2i_r1: TERAN}} | {{i2t_r1: TERAN}} | {{swaps: TERAN}} |
#
# ## Three questions
#
# <details><summary>A first stage finds 48 % at R@1, and 99 % of the matches are among its first 100. Another finds 55 % at R@1, and 90 % among its first 100. Which do you take for a search in two stages with a good second stage?</summary>
#
# The first, with K = 100. The second stage can find only what is in the shortlist, and it makes the order inside anew. So choose a first stage by its recall at K.
# </details>
# <details><summary>Somebody reports that with the intra-modal part the largest differences between V and T went from 0.5 to 0.02. What do you ask before you are pleased?</summary>
#
# What the cosines are. A model that maps everything to one vector has no differences at all, and knows nothing about its pictures. Ask for the spread of V and T, their correlation, and the recall.
# </details>
# <details><summary>You double the gallery. What happens to the time of a query in two stages, and to its recall, if K stays as it is?</summary>
#
# The first stage takes twice as long, the second as long as before. Twice as many pictures compete with the match for a place in the shortlist, so more matches are missed. To miss as few, K must grow about as the gallery does.
# </details>
#
# **What comes next.** You have both now, a fast query and a fine order. But what is each part worth: the barrier, the intra-modal part, the weight $w$? What does the vector still miss? Appendix 05a takes TGDT apart, and lets it look through 25,000 pictures.
#
# ## Further reading
#
# - C. Liu, Y. Zhang, H. Wang, W. Chen, F. Wang, Y. Huang, Y.-D. Shen, L. Wang. *Efficient token-guided image-text retrieval with consistent multimodal contrastive training.* IEEE Transactions on Image Processing 32:3622-3633, 2023. arXiv 2306.08789. TGDT and CMC.
# - N. Messina, G. Amato, A. Esuli, F. Falchi, C. Gennaro, S. Marchand-Maillet. *Fine-grained visual textual alignment for cross-modal retrieval using transformer encoders.* ACM TOMM 17(4), 2021. arXiv 2008.05231. TERAN: the local reading.
# - O. Khattab, M. Zaharia. *ColBERT: Efficient and effective passage search via contextualized late interaction over BERT.* SIGIR 2020. MrSw and two stages, for text.
# - J. Johnson, M. Douze, H. Jégou. *Billion-scale similarity search with GPUs.* IEEE Transactions on Big Data 7(3):535-547, 2021. FAISS: the first stage when there are very many.

# %%
lesson.clock()
lesson.finish()
