# %% [markdown] run_minutes=4
# # 01 · Global embeddings: one vector a picture, one a sentence
#
# Lesson 00 measured, and learnt nothing. Its bag of words had to be told what is in a picture. Now a model has to find
# out: two neural networks, one for images and one for text, each end in **one vector**. A loss pulls the two vectors of a
# pair together, and those of different pairs apart. VSE++ (2018) works like this, and so does [CLIP](../docs/GLOSSARY.md#clip) (2021). It is still how
# a billion pictures are searched: with one dot product for each.
#
# **At the end you can**
#
# - write the field's two losses, the [triplet loss](../docs/GLOSSARY.md#triplet-loss) and [InfoNCE](../docs/GLOSSARY.md#infonce), and the loop that trains with them;
# - see a model collapse (all its vectors become the same), and keep it from collapsing;
# - [pool](../docs/GLOSSARY.md#pooling) a set of vectors into one, and say what each of these choices is worth;
# - show what one vector cannot say.
#
# **Time** about {{minutes}} minutes with all 8 exercises. If you leave one out, the library's version takes its place.
# **You need** lesson 00. No GPU.
#
# The model of this lesson is trained **with your code**: your [batches](../docs/GLOSSARY.md#batch), your loss, your loop.

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
from itertools import islice
import matplotlib.pyplot as plt
import numpy as np
import torch
from itr_lib import evaluation, figures, inference
from itr_lib.checks import check, library
from itr_lib.data import epoch_order, image_batch, pair_batch, tokenise
from itr_lib.lessons import open_lesson, recipes

# %%
lesson = open_lesson(
    "01_global_embeddings", profile=profile, device=device, seed=seed, data=data, root=root
)
splits, tokenizer = lesson.load()
train, test = splits.train, splits.test
owner = train.image_of_caption  # caption j belongs to picture owner[j]

# %% [markdown]
# ## 1. Two encoders
#
# How can a billion pictures be searched while somebody waits? An **[encoder](../docs/GLOSSARY.md#encoder)** turns its input into a vector, and here neither
# encoder knows of the other. So all pictures can be encoded once, long before anybody asks.

# %%
lesson.show(figures.two_encoders())

# %% [markdown]
# **Text.** A caption is cut into *[word pieces](../docs/GLOSSARY.md#word-piece)* from a vocabulary learnt on the training captions. A common word is one
# piece; an unknown one is put together from several. A small BERT, a [transformer](../docs/GLOSSARY.md#transformer) in which every piece looks at all others,
# turns each piece into a vector that depends on its neighbours.

# %% tags=["nbval-check-output"]
for caption in (train.captions[0], "an unbelievably red hexagon"):
    print(caption, "→", " ".join(tokenizer.tokenize(caption)))

# %% [markdown]
# **Images.** A detector has drawn up to 36 boxes, the **regions**, on each picture and describes each by a row of numbers.
# An MLP (*multi-layer perceptron*: here two linear layers, with all numbers below 0 set to 0 in between) maps these
# numbers and the position of the box to a vector.
#
# Then **pooling** makes one vector of the set, on both sides. Follow three pairs through an untrained model and watch the
# shapes.

# %%
recipe = recipes.vse(profile, data, seed)
model = recipe.build(train, tokenizer).to(lesson.device)
tokens = tokenise(tokenizer, train.captions)
batch = pair_batch(train, tokens, np.flatnonzero(owner < 3)[::5], lesson.device)
with torch.no_grad():
    regions = model.regions(*batch.images[:3])
    images, captions = model.encode_images(batch.images), model.encode_captions(batch.captions)
print(
    "regions of three pictures ", tuple(regions.shape), "→ image vectors", tuple(images.shape)
)
print("pieces of three captions  ", tuple(batch.captions.ids.shape), end=" ")
print("→ caption vectors", tuple(captions.shape))
print(model.scores(images, captions).cpu().numpy().round(2))

# %% [markdown]
# The true pairs stand on the **diagonal**. An untrained model has no reason to score them higher than the rest. A loss must
# say how wrong the scores are.
#
# ## 2. The triplet loss, from loops
#
# What should a wrong score cost? Take a batch of $B$ pairs and its $B \times B$ score matrix $S$. Picture $i$ asks: caption
# $i$ is its **[positive](../docs/GLOSSARY.md#positive)**, every other caption a **[negative](../docs/GLOSSARY.md#negative)**. We want the positive to win by a **[margin](../docs/GLOSSARY.md#margin)** $m$. A negative
# that comes closer costs what is missing, and one that is far enough below costs nothing:
#
# $$ [\, m + S_{ij} - S_{ii} \,]_+ \qquad [x]_+ = \max(0, x) $$
#
# The bracket is called a **[hinge](../docs/GLOSSARY.md#hinge)**: flat up to a point, then a slope. Captions ask in the same way, down the columns. So
#
# $$ L_\text{all} = \sum_{i} \sum_{j \ne i} \Big( [\, m + S_{ij} - S_{ii} \,]_+ + [\, m + S_{ji} - S_{ii} \,]_+ \Big) $$

# %% tags=["nbval-check-output"]
S = torch.tensor([[0.9, 0.8, 0.75], [0.2, 0.5, 0.6], [0.1, 0.2, 0.7]])
print("picture 1 asks: its own caption scores 0.5, caption 2 scores 0.6")
print(f"cost with margin 0.2: max(0, 0.2 + 0.6 - 0.5) = {max(0, 0.2 + 0.6 - 0.5):.1f}")

# %% [markdown] exercise="triplet-loop" difficulty=2 minutes=7 points=2
# ### Your turn: every negative, in loops
#
# Write `triplet_loop(scores, margin)` straight from the formula, loops and all: a sum over all negatives of all
# queries, in both directions. It will be slow and obviously right: a good test for the fast version to come.
#
# <details><summary>Help 1: the idea</summary>
#
# Two nested loops over i and j. When they are equal there is nothing to do, otherwise there are two terms to add.
# </details>
# <details><summary>Help 2: the trap</summary>
#
# Both terms subtract the *same* positive, the one of query i. The first reads along row i, the second down column i.
# And each is cut off at 0 for itself.
# </details>


# %% solution="triplet-loop"
def triplet_loop(scores, margin):
    """Hinge loss over all negatives, both directions, summed: (B, B) -> scalar.

    For the matrix S above and margin 0.2 it is 1.3.
    """
    ### BEGIN SOLUTION
    loss = torch.zeros((), dtype=scores.dtype, device=scores.device)
    for i in range(len(scores)):
        for j in range(len(scores)):
            if i != j:
                loss = loss + (margin + scores[i, j] - scores[i, i]).clamp(min=0)
                loss = loss + (margin + scores[j, i] - scores[i, i]).clamp(min=0)
    return loss
    ### END SOLUTION


# %% check="triplet-loop"
triplet_loop = check("triplet-loop", triplet_loop)

# %% [markdown]
# ## 3. Batches without false negatives
#
# “Every other caption in the batch is a negative.” Is it? Every picture has five captions. Draw a batch of captions at
# random, and some may belong to the same picture. The loss then pushes a picture away from a caption *that was written for
# it*: a **[false negative](../docs/GLOSSARY.md#false-negative)**.

# %%
rng = np.random.default_rng(seed)
size = recipe.training.batch_size
drawn = [owner[rng.permutation(len(owner))[:size]] for _ in range(200)]
pairs = np.mean([(np.bincount(o)[o] - 1).sum() for o in drawn])
lesson.say(
    f"A batch of {size} captions from {len(train):,} pictures holds **{pairs:.1f}** false negatives on "
    f"average, among {size * (size - 1):,} negatives."
)

# %% [markdown]
# That is few. But which negative does a good model score *highest*? Another caption of the same picture, of course. In
# section 6 we ask a trained model, and “few” will look different.
#
# There are two remedies. **Mask** them: the loss gets a matrix `same_image` that marks the pairs which are no negatives. Or
# **draw batches that have none**.

# %% [markdown] exercise="unique-batches" difficulty=3 minutes=15 points=3
# ### Your turn: an epoch without false negatives
#
# Write `unique_batches(image_of_caption, batch_size, rng)`. It returns one **[epoch](../docs/GLOSSARY.md#epoch)**, a pass through all captions: a list of
# batches, each a list or array of caption numbers, counted from 0.
#
# - Every caption comes exactly once.
# - A batch holds at most `batch_size` captions, all of different pictures.
# - Batches are well filled. With $M$ captions, and at most $T$ captions of one picture, $\lceil M / \text{batch\_size} \rceil + T$ batches are allowed.
# - Which pictures share a batch is left to chance, and decided anew each time: the same ones must not meet again and again. All
#   chance comes from `rng`, a NumPy generator.
#
# Pictures may have different numbers of captions, in any order.
#
# <details><summary>Help 1: the idea</summary>
#
# Go in rounds. The first round takes one caption of every picture, the second another one of every picture that has one
# left, and so on. Within a round all pictures differ, so it can be cut into batches anywhere.
# </details>
# <details><summary>Help 2: a plan</summary>
#
# Shuffle all captions (`rng.permutation`). Walk through them, and count for each caption how many of its picture came
# before: that count is its round. A dictionary keeps the counts, another the rounds.
# </details>
# <details><summary>Help 3: the trap</summary>
#
# The last piece of a round is shorter. Keep it: a caption that is dropped is never learnt from in this epoch.
# </details>


# %% solution="unique-batches"
def unique_batches(image_of_caption, batch_size, rng):
    """Batches of one epoch, each caption once, no picture twice in a batch: (M,) ints -> list of int arrays.

    For image_of_caption [0, 0, 1, 1] and batch_size 2 it may be [[1, 2], [3, 0]].
    """
    ### BEGIN SOLUTION
    seen, rounds = {}, {}
    for caption in rng.permutation(len(image_of_caption)):
        image = int(image_of_caption[caption])
        turn = seen.get(image, 0)
        seen[image] = turn + 1
        rounds.setdefault(turn, []).append(caption)
    return [
        np.array(captions[start : start + batch_size])
        for captions in rounds.values()
        for start in range(0, len(captions), batch_size)
    ]
    ### END SOLUTION


# %% check="unique-batches"
unique_batches = check("unique-batches", unique_batches)

# %% [markdown]
# From here on your function feeds the model. A batch of caption numbers becomes a batch of tensors only when its turn comes:
# all pictures of an epoch at once would fill the memory.


# %%
def batches_of(epoch):
    """The batches of an epoch, made one after the other."""
    rng = np.random.default_rng([seed, epoch])
    for rows in unique_batches(owner, size, rng):
        yield pair_batch(train, tokens, np.asarray(rows), lesson.device)


steps = len(unique_batches(owner, size, np.random.default_rng(seed)))
print(f"{steps} batches an epoch; in the first of epoch 0, pictures", end=" ")
print(next(batches_of(0)).image_ids[:8].tolist(), "...")

# %% [markdown]
# ## 4. The hardest negative
#
# Which negatives matter most? R@1 depends on one alone: the negative that scores highest, the **hardest**. In the sum over all
# negatives, many small costs outweigh its one large cost. So VSE++ keeps only the [hardest negative](../docs/GLOSSARY.md#hardest-negative) of each query:
#
# $$ L_\text{hardest} = \sum_i \Big( \big[\, m + \max_{j \ne i} S_{ij} - S_{ii} \,\big]_+ + \big[\, m + \max_{j \ne i} S_{ji} - S_{ii} \,\big]_+ \Big) $$

# %% [markdown] exercise="triplet-hardest" difficulty=3 minutes=12 points=3
# ### Your turn: hardest negatives, without loops
#
# Write `hardest_triplet(scores, margin, same_image)`. `same_image[i, j]` is True where caption $j$ belongs to picture $i$:
# on the diagonal, and wherever the batch holds another caption of the same picture. Those are never negatives. A query
# without any negative costs 0. Scores may have any size and sign. Use tensor operations, so that it is fast and a [gradient](../docs/GLOSSARY.md#gradient)
# can flow.
#
# <details><summary>Help 1: the idea</summary>
#
# Make the whole matrix of costs at once. The positives are `scores.diagonal()`; as a column, `[:, None]`, they fit the
# rows, where pictures ask. As a row, `[None, :]`, they fit the columns, where captions ask.
# </details>
# <details><summary>Help 2: the mask</summary>
#
# After the hinge no cost is below 0, so a masked cost of 0 can never win wrongly. If you mask *scores* before the maximum,
# only `-torch.inf` is sure to lose.
# </details>
# <details><summary>Help 3: the maximum</summary>
#
# `cost.amax(dim=1)` is the largest number of each row, and `dim=0` that of each column.
# </details>


# %% solution="triplet-hardest"
def hardest_triplet(scores, margin, same_image):
    """Hinge loss with the hardest negative of each query, both directions, summed: (B, B), float, (B, B) bool -> scalar.

    For S above, margin 0.2 and only the diagonal True it is 1.15.
    """
    ### BEGIN SOLUTION
    positive = scores.diagonal()
    image_asks = (margin + scores - positive[:, None]).clamp(min=0).masked_fill(same_image, 0)
    caption_asks = (margin + scores - positive[None, :]).clamp(min=0).masked_fill(same_image, 0)
    return image_asks.amax(dim=1).sum() + caption_asks.amax(dim=0).sum()
    ### END SOLUTION


# %% check="triplet-hardest"
hardest_triplet = check("triplet-hardest", hardest_triplet)

# %% [markdown]
# ## 5. The loop that trains
#
# How does a loss change a model? Training goes through the batches, again and again, and does the same for each: compute the
# loss, learn from its gradient which way every weight should go, and take a small step that way.
#
# Five things are easily forgotten:
#
# - Gradients **add up** in PyTorch, so they are set to zero for each batch (`optimizer.zero_grad()`).
# - One bad batch can throw a model far off. **[Clipping](../docs/GLOSSARY.md#gradient-clipping)** shortens a gradient whose norm is above a limit:
#   `torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)`, after `backward` and before the step.
# - The [learning rate](../docs/GLOSSARY.md#learning-rate), the size of the step, follows a **schedule**: it climbs at the start and falls at the end.
#   `schedule.step()` comes after each step of the optimizer.
# - **[Dropout](../docs/GLOSSARY.md#dropout)** sets numbers to zero at random, so that a network relies on none of them. It works only in *training mode*.
#   [Validation](../docs/GLOSSARY.md#validation) leaves the model in *evaluation mode*; `model.train()` puts it back.
# - A loss holds the whole graph of its computation. To remember a loss, keep its number, `loss.item()`.

# %% [markdown] exercise="training-loop" difficulty=3 minutes=15 points=4
# ### Your turn: the loop
#
# Write `training_loop(...)`. For each epoch, counted from 0, go through `batches_of(epoch)`: it can be read once, and has no
# length. For each batch the loss is `objective(model, batch, epoch)`. Clip to a norm of 2.0, step the optimizer, then the
# schedule. After the last batch of an epoch call `validate(epoch)`, which leaves the model in evaluation mode. Return a list
# of numbers: the mean loss of each epoch.
#
# <details><summary>Help 1: the shape</summary>
#
# Two loops, one inside the other. In the outer one stands what happens once in each epoch: training mode and a new, empty list
# of losses at its start, their mean and `validate` at its end. In the inner one stands what happens for each batch.
# </details>
# <details><summary>Help 2: the order in a batch</summary>
#
# Gradients must be empty before `backward` fills them, and clipped before the optimizer uses them. The schedule sets the rate
# for the batch that comes next. So what is the order?
# </details>


# %% solution="training-loop"
def training_loop(model, objective, batches_of, optimizer, schedule, epochs, validate):
    """Train model in place; the mean loss of each epoch: -> list of floats, as many as epochs.

    A weight of 0 with the loss (weight - b)² on batches b = 1, 2, 3 and learning rate 0.1: the losses are
    1, 3.24 and 6.76 (two gradients are clipped), so one epoch gives [3.67], and the weight is 0.6.
    """
    ### BEGIN SOLUTION
    means = []
    for epoch in range(epochs):
        model.train()
        losses = []
        for batch in batches_of(epoch):
            loss = objective(model, batch, epoch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
        validate(epoch)
    return means
    ### END SOLUTION


# %% check="training-loop"
training_loop = check("training-loop", training_loop)

# %% [markdown]
# The library's loop, `itr_lib/training.py`, does the same, and can also be interrupted and resumed. Around your loop we need
# an optimizer with its schedule, and an **[objective](../docs/GLOSSARY.md#objective)**: a function that takes the model and a batch, and calls your loss. Ours
# also notes how alike the vectors of *different* pictures are: the mean of their cosines.


# %%
def fit(model, objective, epochs, batches_of, validate=lambda epoch: None):
    """Your loop with AdamW, the optimizer of nearly all transformers, and the course's schedule."""
    torch.manual_seed(seed)
    rate = recipe.training.learning_rate
    optimizer = torch.optim.AdamW(
        model.parameters(), rate, weight_decay=recipe.training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: recipe.training.learning_rate_factor(step, steps)
    )
    return training_loop(model, objective, batches_of, optimizer, schedule, epochs, validate)


def objective_of(loss_of, seen):
    """loss_of(scores, same_image, epoch) -> what the loop calls; notes loss and likeness of every batch in seen."""

    def objective(model, batch, epoch):
        images = model.encode_images(batch.images)
        scores = model.scores(images, model.encode_captions(batch.captions))
        loss = loss_of(scores, batch.same_image, epoch)
        alike = (images @ images.T)[~batch.same_image].mean()
        seen.append((loss.item(), alike.item()))
        return loss

    return objective


# %% [markdown]
# ### A first run, and a collapse
#
# Batches, loss, loop: everything is there. Let us train on the hardest negatives with a margin of 0.2, first on 60 batches.

# %%
collapsing = []
fit(
    recipe.build(train, tokenizer).to(lesson.device),
    objective_of(
        lambda scores, same, epoch: hardest_triplet(scores, 0.2, same) / len(scores), collapsing
    ),
    epochs=1,
    batches_of=lambda epoch: islice(batches_of(epoch), 60),
)
(first_loss, first_alike), (last_loss, last_alike) = collapsing[0], collapsing[-1]
lesson.say(
    f"Loss per pair: {first_loss:.3f} → **{last_loss:.3f}**. Mean cosine of different pictures: "
    f"{first_alike:.3f} → **{last_alike:.3f}**."
)

# %% [markdown]
# The loss goes down, so all is well? Look at the second number. An untrained model gives similar vectors to all pictures,
# and this training makes them even *more* alike. The model **collapses**.
#
# Where all vectors are the same, every negative scores what the positive scores. Each query costs exactly the margin, and
# the loss per pair is $2m = 0.4$. From there no gradient leads away.
#
# Why does it go there? In a new model chance decides which negative is the hardest, and the loss is above 0.4. The easiest
# way to a lower loss is to make everything alike.
#
# ## 6. Warm up, then train
#
# How can we keep the model from collapsing? With a **[warm-up](../docs/GLOSSARY.md#warm-up)**. In the first epoch *all* negatives count: their sum tells each
# vector roughly where to go. Then the hardest negative means something, and from the second epoch on it counts alone.

# %% [markdown] exercise="warm-up" difficulty=3 minutes=10 points=3
# ### Your turn: a loss that warms up
#
# Write `warm_triplet(scores, margin, same_image, epoch, warmup_epochs)`. In the first `warmup_epochs` epochs it is section 2's
# sum over all negatives, afterwards section 4's sum over the hardest ones; `epoch` is counted from 0. In both phases
# `same_image` marks what is no negative, and the sum is divided by the number of pairs $B$.
#
# Do without loops here: this loss trains the model, and must be fast.
#
# <details><summary>Help 1: what both have in common</summary>
#
# Both phases need the same two matrices of costs, hinged and masked. They differ only in what they do with each query's costs.
# </details>
# <details><summary>Help 2: when to switch</summary>
#
# With one epoch of warm-up, epoch 0 is warm and epoch 1 is not. With none, the hardest count from the start.
# </details>


# %% solution="warm-up"
def warm_triplet(scores, margin, same_image, epoch, warmup_epochs):
    """All negatives in the first epochs, then the hardest; per pair: (B, B), float, (B, B) bool, int, int -> scalar.

    For S above, margin 0.2, only the diagonal True and one epoch of warm-up: 1.3 / 3 in epoch 0, 1.15 / 3 in epoch 1.
    """
    ### BEGIN SOLUTION
    positive = scores.diagonal()
    image_asks = (margin + scores - positive[:, None]).clamp(min=0).masked_fill(same_image, 0)
    caption_asks = (margin + scores - positive[None, :]).clamp(min=0).masked_fill(same_image, 0)
    if epoch >= warmup_epochs:
        image_asks, caption_asks = image_asks.amax(dim=1), caption_asks.amax(dim=0)
    return (image_asks.sum() + caption_asks.sum()) / len(scores)
    ### END SOLUTION


# %% check="warm-up"
warm_triplet = check("warm-up", warm_triplet)

# %% [markdown]
# Which scores does a training step push in each phase, and how hard? The **gradient** shows it. Red scores are pushed down,
# blue ones up.

# %%
g = torch.Generator().manual_seed(0)
demo = (torch.rand(8, 8, generator=g) * 0.5 + 0.35 * torch.eye(8)).requires_grad_(True)
diagonal = torch.eye(8, dtype=torch.bool)
pushes = {
    name: torch.autograd.grad(warm_triplet(demo, 0.2, diagonal, epoch, 1), demo)[0]
    for epoch, name in enumerate(("all negatives", "hardest only"))
}
title = "Hardest only: one push for each query that does not win by the margin"
lesson.show(figures.push_maps(demo, pushes, title))
slow = float(triplet_loop(demo.detach(), 0.2))
fast = 8 * float(warm_triplet(demo.detach(), 0.2, diagonal, 0, 1))
print(f"all negatives, from your loops {slow:.4f}, from your tensors {fast:.4f}")

# %% [markdown]
# Now train for real, with one epoch of warm-up. After each epoch we measure on the **validation** pictures, and keep the
# weights of the best epoch. The test pictures are looked at once, at the end.

# %%
history, best = [], {}


def validate(epoch):
    history.append(inference.evaluate(model, tokenizer, splits.val, device=lesson.device))
    model.eval()
    if history[-1]["rsum"] == max(metrics["rsum"] for metrics in history):
        best.update({name: value.clone() for name, value in model.state_dict().items()})
    print(f"epoch {epoch}: validation R@1, text to image {history[-1]['t2i_r1']:.1f} %")


learning = []
warm = objective_of(
    lambda scores, same, epoch: warm_triplet(scores, 0.2, same, epoch, 1), learning
)
losses = fit(model, warm, recipe.training.epochs, batches_of, validate)
model.load_state_dict(best)
scores, metrics = lesson.test(model)
lesson.record(t2i_r1=metrics.t2i_r1, i2t_r1=metrics.i2t_r1, rsum=metrics.rsum)

# %%
runs = {"hardest from the start": collapsing, "warm-up, then hardest": learning}
title = "Training with a warm-up and without: what becomes of the vectors?"
lesson.show(figures.collapse_curves(runs, floor=0.4, switch=steps, title=title))

# %% [markdown]
# At the dotted line the loss changes its meaning, from a sum over all negatives to the hardest one, so only recall can be
# compared across it. On the scenes the model comes close to collapsing right after the line, and this time it gets away.

# %%
title = "One vector a picture, trained with a warm-up and the hardest negatives"
results = {"this run": metrics, "VSE++, recorded": "VSE++ (hardest, GPO)"}
lesson.compare(results, metrics=("i2t_r1", "t2i_r1", "t2i_r10"), title=title)
if test.truth is not None:
    bag = evaluation.retrieval_metrics(
        evaluation.baselines.tag_scores(test).round(decimals=6), test.image_of_caption
    )
    lesson.say(
        f"R@1 from text to image: lesson 00's bag of words {bag.t2i_r1:.1f} %, "
        f"your model {metrics.t2i_r1:.1f} %."
    )

# %% [markdown]
# On the scenes, that is about as much. But the bag was told what is in a picture. Your model had to learn to read and to
# look, through a detector that misnames about one shape in ten.

# %%
found = scores.argmax(dim=0).numpy() == test.image_of_caption
shown = [*np.flatnonzero(found)[:2], *np.flatnonzero(~found)[:2]]
title = "Text to image on test pictures: two hits, two misses"
lesson.show(figures.image_gallery(test, scores, shown, title))

# %% [markdown]
# ### Back to the false negatives
#
# Now draw batches at random. For each picture with a second caption in its batch: which negative does the trained model find
# hardest?

# %%
order = epoch_order(owner, size, np.random.default_rng(seed), unique_images=False)
wrong, asked = 0, 0
for drawn in islice(order, 20):
    batch = pair_batch(train, tokens, drawn, lesson.device)
    with torch.no_grad():
        S = model.scores(
            model.encode_images(batch.images), model.encode_captions(batch.captions)
        )
    hardest = S.fill_diagonal_(-torch.inf).argmax(dim=1)
    has_sibling = batch.same_image.sum(dim=1) > 1
    wrong += int(batch.same_image[torch.arange(len(S)), hardest][has_sibling].sum())
    asked += int(has_sibling.sum())
share = 100 * wrong / max(asked, 1)
lesson.record(false_hardest=share)
lesson.say(
    f"For **{share:.0f} %** of these {asked} pictures the hardest “negative” is a caption of their own."
)

# %% [markdown]
# Where there is a false negative, a loss that keeps only the hardest one tends to pick it. False negatives are rare here,
# since a batch is small beside thousands of pictures. Their number per query grows with the batch, and falls with the number
# of pictures.
#
# ## 7. InfoNCE: the same wish as a classification
#
# Is there a loss that needs no warm-up? **InfoNCE**, the loss of CLIP, asks: which of these $B$ captions belongs to this
# picture? A [softmax](../docs/GLOSSARY.md#softmax) over row $i$ of $S / \tau$ answers with probabilities. The loss is *[cross-entropy](../docs/GLOSSARY.md#cross-entropy)*: minus the log of the
# probability that the right caption gets. Columns ask for pictures, and the two directions are averaged.
#
# $$ L = -\frac{1}{2B} \sum_i \bigg( \log \frac{e^{S_{ii}/\tau}}{\sum_{j} e^{S_{ij}/\tau}} + \log \frac{e^{S_{ii}/\tau}}{\sum_{j} e^{S_{ji}/\tau}} \bigg) $$
#
# The **[temperature](../docs/GLOSSARY.md#temperature)** $\tau$ decides how much of the push goes to the hardest negatives: nearly all of it when $\tau$ is low.

# %%
negatives = torch.linspace(-0.2, 0.8, 101)
figure, axis = plt.subplots(figsize=(6.4, 3.2))
for tau in (0.02, 0.05, 0.1, 0.5):
    axis.plot(negatives, 100 * torch.softmax(negatives / tau, 0), label=f"τ = {tau}")
axis.set(xlabel="score of a negative (cosine)", ylabel="share of the push (%)")
axis.set_title("The lower the temperature, the more of the push goes to the hardest")
axis.legend(frameon=False)
lesson.show(figure)

# %% [markdown] exercise="info-nce" difficulty=3 minutes=10 points=3
# ### Your turn: InfoNCE with a mask
#
# Write `nce(scores, temperature, same_image)`. Other captions of the same picture are no negatives: leave them out of the
# sums below the line of the fraction. The diagonal stays, above and below. The result must be finite for temperatures as low
# as 0.003.
#
# <details><summary>Help 1: the idea</summary>
#
# A **logit** is a number before the softmax, here a score divided by the temperature. A logit of `-torch.inf` adds nothing to
# a sum of exponentials. Then take the log-softmax of the rows and of the columns, and read off the diagonals.
# </details>
# <details><summary>Help 2: the mask</summary>
#
# `same_image` is True on the diagonal, too. Take the diagonal out: `same_image & ~eye`, where `eye` is a `torch.eye` of bools
# on the same device.
# </details>
# <details><summary>Help 3: the trap</summary>
#
# Never take `exp` yourself: at a low temperature it overflows in float32. `log_softmax` and `logsumexp` do not.
# </details>


# %% solution="info-nce"
def nce(scores, temperature, same_image):
    """Symmetric cross-entropy on the diagonal: (B, B), float, (B, B) bool -> scalar.

    For equal scores and no further matches it is log(B): nce(torch.zeros(8, 8), 1.0, eye) = 2.0794.
    """
    ### BEGIN SOLUTION
    diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    logits = (scores / temperature).masked_fill(same_image & ~diagonal, -torch.inf)
    image_asks = logits.log_softmax(dim=1).diagonal().mean()
    caption_asks = logits.log_softmax(dim=0).diagonal().mean()
    return -(image_asks + caption_asks) / 2
    ### END SOLUTION


# %% check="info-nce"
nce = check("info-nce", nce)

# %% [markdown]
# Your second loss trains a second model, from the same first weights and on the same batches, for one epoch.

# %%
soft = recipe.build(train, tokenizer).to(lesson.device)
contrast = objective_of(lambda scores, same, epoch: nce(scores, 0.05, same), [])
(loss,) = fit(soft, contrast, 1, batches_of)
after = inference.evaluate(soft, tokenizer, splits.val, device=lesson.device)
lesson.say(
    f"One epoch, validation R@1 from text to image: InfoNCE **{after['t2i_r1']:.1f} %** (its loss began near "
    f"log {size} = {np.log(size):.2f}, and was {loss:.2f} on average), all negatives {history[0]['t2i_r1']:.1f} %."
)

# %% [markdown]
# Without a warm-up, InfoNCE does not collapse. Its softmax is a soft version of the hardest negative. While all scores are
# alike it pushes all of them; as they part, it turns to the hardest.
#
# ## 8. Pooling: from a set to one vector
#
# How do up to 36 region vectors become one? By their mean? Then a small star has a small say. By the maximum of each
# dimension? Then one extreme box decides. **[GPO](../docs/GLOSSARY.md#generalised-pooling-operator)**, the *generalised pooling operator*, learns what lies between. It *sorts*
# each dimension over the set, largest first, and multiplies the value at each place $k = 0, 1, \ldots$ by a learnt weight
# $\theta_k$:
#
# $$ v_d = \sum_k \theta_k \cdot (\text{value at place } k \text{ in dimension } d) $$
#
# With equal weights this is the mean. With $\theta_0 = 1$ and all others 0 it is the maximum.

# %% tags=["nbval-check-output"]
three = torch.tensor([[1.0, 5.0], [4.0, 2.0], [0.0, 3.0]])
ordered = three.sort(dim=0, descending=True).values
print("a set of three vectors, each dimension sorted:", ordered.tolist())
print("with weights 0.5, 0.3, 0.2:", torch.tensor([0.5, 0.3, 0.2]) @ ordered)

# %% [markdown] exercise="sorted-pool" difficulty=3 minutes=10 points=3
# ### Your turn: the weighted sum of sorted values
#
# Write `sorted_pool(tokens, mask, weights)`: the part of GPO after the weights are known. A **[token](../docs/GLOSSARY.md#token)** is one vector of a set,
# here a region. `mask` is False where a token is padding, which takes no part and can stand anywhere. `weights[b, k]` belongs
# to place $k$ of set $b$ after sorting, and is 0 beyond the set's size; take the weights as they are. Values may have any
# size and sign.
#
# <details><summary>Help 1: the idea</summary>
#
# Padding must sort to the end, even when real values are negative. Which number is below all others?
# </details>
# <details><summary>Help 2: the trap</summary>
#
# `-torch.inf` is, but `0 * -inf` is NaN. So after the sort, set to 0 what came from padding. It stands last now: the old mask
# no longer fits.
# </details>
# <details><summary>Help 3: the shapes</summary>
#
# `mask[..., None]` and `weights[..., None]` have the shape (B, K, 1), which fits tokens of shape (B, K, D).
# </details>


# %% solution="sorted-pool"
def sorted_pool(tokens, mask, weights):
    """Weighted sum of each dimension's sorted real values: (B, K, D), (B, K) bool, (B, K) -> (B, D).

    For the set above (B = 1) and weights [[.5, .3, .2]] it is [[2.3, 3.8]].
    """
    ### BEGIN SOLUTION
    hidden = tokens.masked_fill(~mask[..., None], -torch.inf)
    ordered = hidden.sort(dim=1, descending=True).values
    ordered = ordered.masked_fill(ordered == -torch.inf, 0)
    return (ordered * weights[..., None]).sum(dim=1)
    ### END SOLUTION


# %% check="sorted-pool"
sorted_pool = check("sorted-pool", sorted_pool)

# %% [markdown]
# Your function now pools the regions of the trained model: with the weights that this model learnt, and with those of the
# mean and of the maximum.


# %%
def weights_for(pooling, mask):
    """What each place counts, for sets with this mask: (B, K) bool -> (B, K)."""
    if pooling == "learnt":
        return model.pool_regions.gpo.weights(mask.sum(dim=1), mask.shape[1])
    place, count = torch.arange(mask.shape[1], device=mask.device), mask.sum(1, keepdim=True)
    return (
        (place < count) / count
        if pooling == "mean"
        else (place == 0).float().expand(mask.shape)
    )


_, captions = inference.encode(model, tokenizer, test, device=lesson.device)
recall = dict.fromkeys(("learnt", "mean", "maximum"), 0.0)
for pooling in recall:
    vectors = []
    for rows in np.array_split(np.arange(len(test)), max(1, len(test) // 100)):
        batch = image_batch(test, rows, lesson.device)
        with torch.no_grad():
            weights = weights_for(pooling, batch.mask)
            vectors.append(sorted_pool(model.regions(*batch[:3]), batch.mask, weights))
    table = model.scores(torch.cat(vectors), captions).cpu()
    recall[pooling] = evaluation.retrieval_metrics(table, test.image_of_caption).t2i_r1

# %%
full = torch.ones(1, 36, dtype=torch.bool, device=lesson.device)
lines = {pooling: weights_for(pooling, full)[0] for pooling in ("learnt", "mean")}
title = "The weight of each of 36 places; for the maximum it is 1 at place 0"
lesson.show(figures.rank_weights(lines, title))
found = ", ".join(f"{pooling} {value:.1f} %" for pooling, value in recall.items())
lesson.say(f"R@1 from text to image with each of these weights: {found}.")

# %% [markdown]
# With the learnt weights your function gives the model's own result. The other two are at a disadvantage here, since the
# model was trained with its own weights. A fair comparison trains a model for each pooling.
#
# ## 9. What each choice is worth
#
# Which loss is best, and which pooling? Finding out takes longer than a lesson, so the runs were recorded, three [seeds](../docs/GLOSSARY.md#seed) for each
# choice. A difference counts when it is larger than the spread of the seeds.

# %% tags=["key-figure"]
results = {
    "this run": metrics,
    "VSE++": "VSE++ (hardest, GPO)",
    "all negatives": "all negatives",
    "InfoNCE": "InfoNCE",
    "mean pooling": "mean pooling",
    "mean pooling, InfoNCE": "mean pooling, InfoNCE",
    "false negatives left in": "false negatives in",
    "hardest from step one": "hardest from step one",
}
title = "Loss and pooling, one change at a time"
lesson.compare(results, metrics=("i2t_r1", "t2i_r1", "rsum", "loss"), title=title)

# %% [markdown]
# The numbers below are R@1 from text to image, on the scenes.
#
# - **InfoNCE is best**, {{t2i_r1: InfoNCE}} against {{t2i_r1: VSE++ (hardest, GPO)}} for VSE++. It needed no warm-up.
# - **Hardest against all negatives:** a clear gain from image to text, a small one from text to image.
# - **Mean pooling looks like a disaster.** With the hardest negatives it reaches {{t2i_r1: mean pooling}}. But its loss ends
#   where a collapsed model's does, at two margins per pair, and with InfoNCE the same pooling reaches
#   {{t2i_r1: mean pooling, InfoNCE}}. So change one thing at a time, and then cross the changes.
# - **False negatives left in:** no difference beyond the spread. They are too rare here to show. A mistake like this can stay
#   unnoticed for years.
# - **Hardest from step one:** collapsed with every seed.
#
# **On photographs the order changes.** On a small part of Flickr8k (`data="flickr8k"`), R@1 from text to image is
# {{01_global_embeddings-flickr8k/t2i_r1: VSE++ (hardest, GPO)}} for VSE++,
# {{01_global_embeddings-flickr8k/t2i_r1: all negatives}} for all negatives and
# {{01_global_embeddings-flickr8k/t2i_r1: InfoNCE}} for InfoNCE. Here the hardest negative hurts, and with most
# seeds the loss stays close to a collapsed model's. One possible reason: among few photographs the hardest negative often
# fits the caption nearly as well (a second dog in the snow). A ranking of methods is a ranking on some data; say which.
#
# ## 10. Where one vector fails
#
# Lesson 00 ended with **twins**: two pictures whose objects have exchanged an attribute, and two captions with the same
# words. The bag of words was at 50 %, a coin. Your model can read word order, and a region can show one object with its
# colour. Does it know which colour belongs to which shape? That is called **binding**.

# %% [markdown] exercise="twin-choices" difficulty=2 minutes=6 points=2
# ### Your turn: forced choice
#
# Write `twin_choices(scores)`. Rows are pictures and columns are captions; caption $j$ belongs to picture $j$. Numbers 0 and 1
# are twins, so are 2 and 3, and so on. Return the percentage of captions whose own picture scores higher than the twin; a tie
# counts one half.
#
# <details><summary>Help 1: the idea</summary>
#
# A caption is a column. Compare the score on the diagonal with that of the twin picture in the same column.
# </details>
# <details><summary>Help 2: the twin</summary>
#
# The twin of 0 is 1, of 1 is 0, of 2 is 3. That is `j ^ 1` (exclusive or), for a number and for a whole tensor of numbers.
# </details>


# %% solution="twin-choices"
def twin_choices(scores):
    """Percentage of captions that prefer their own picture to its twin: (2P, 2P) -> float.

    twin_choices(torch.tensor([[.9, .1], [.3, .8]])) is 100.0, and 50.0 for equal scores.
    """
    ### BEGIN SOLUTION
    j = torch.arange(len(scores), device=scores.device)
    gap = scores[j, j] - scores[j ^ 1, j]
    return 100 * float(((gap > 0).double() + 0.5 * (gap == 0).double()).mean())
    ### END SOLUTION


# %% check="twin-choices"
twin_choices = check("twin-choices", twin_choices)

# %% [markdown]
# Beside the *swaps* there is a control, the *replacements*: there the twin has an attribute that the first picture lacks.

# %% tags=["key-figure"]
choices = {}
for kind, probe in splits.probes.items():
    table = inference.score(model, tokenizer, probe, device=lesson.device).cpu()
    choices[kind] = float(twin_choices(table))
    lesson.record(**{kind: choices[kind]})
    if kind == "swaps":
        title = "Twins: which picture does each caption prefer?"
        lesson.show(figures.pair_figure(probe, table, 0, title))
        pairs = [table[i : i + 2, i : i + 2].argmax(dim=0) for i in range(0, len(table), 2)]
        same = 100 * np.mean([int(first) == int(second) for first, second in pairs])
        lesson.say(f"In **{same:.0f} %** of the swaps both captions prefer the same picture.")
if choices:
    results = {"this run": choices, "VSE++, recorded": "VSE++ (hardest, GPO)"}
    title = "Does it see the attributes, and does it know whose they are?"
    lesson.compare(results, metrics=("replaces", "swaps"), title=title)
else:
    print("Nobody made twins of photographs: run this section on the scenes.")

# %% [markdown]
# The control shows that the model sees attributes. On swaps it is as good as a coin. The share printed below the figure shows
# how: where both captions prefer the *same* picture, exactly one of them is right. To such a model the two captions say the
# same.
#
# Why? Nothing in the architecture forbids binding: a dimension that means “red circle” would survive the pooling. Probably the
# loss hardly ever asks for it. In a random batch it is rare that another picture has the same words in another combination, so
# a bag of words is all it takes to win. Large models trained on photographs fail in the same way (Winoground, in lesson 00's
# reading; ARO, by Yuksekgonul et al. below).
#
# **Next.** Can a score know which word means which region? Lesson 02 keeps words and regions apart until they are compared.
#
# ## What you should have seen
#
# On the scenes, with the recorded numbers:
#
# | what | where | what it showed |
# | --- | --- | --- |
# | false negatives | sections 3, 6 | they are few, and the hardest-negative loss finds them |
# | hardest negatives | sections 4 to 6 | alone they collapse a new model; after an epoch with all negatives, they help |
# | InfoNCE | section 7 | it needs no warm-up, and is the best of the three losses |
# | learnt pooling | sections 8, 9 | under InfoNCE it lifts text-to-image R@1 from {{mean t2i_r1: mean pooling, InfoNCE}}, with the mean, to {{mean t2i_r1: InfoNCE}} |
# | twins | section 10 | {{replaces: VSE++ (hardest, GPO)}} % on replacements, {{swaps: VSE++ (hardest, GPO)}} % on swaps: the model knows which attributes are there, but not whose they are |
#
# ## Three questions
#
# <details><summary>The loss of each query stays at exactly the margin, and R@1 is that of a guesser. What happened?</summary>
#
# The model has collapsed: all vectors are alike, so the hardest negative scores what the positive scores, and the hinge
# is the margin. Warm up with all negatives, or lower the learning rate.
# </details>
# <details><summary>Why can the mean of region vectors, if each is the sum of an attribute part and a shape part, never tell twins apart?</summary>
#
# The mean of (red + circle) and (blue + square) is the mean of (blue + circle) and (red + square): the same four terms.
# Only vectors that are *not* such sums, with a direction of its own for “red circle”, can survive the pooling.
# </details>
# <details><summary>You double the batch size. What happens to the number of false negatives of captions drawn at random?</summary>
#
# In the batch it grows fourfold: twice as many captions each meet twice as many others, and the chance that two belong
# to one picture stays the same. Per query it doubles.
# </details>
#
# ## Further reading
#
# - F. Faghri, D. Fleet, J. Kiros, S. Fidler. *VSE++: improving visual-semantic embeddings with hard negatives.* BMVC 2018.
# - J. Chen, H. Hu, H. Wu, Y. Jiang, C. Wang. *Learning the best pooling strategy for visual semantic embedding.* CVPR 2021. GPO.
# - A. van den Oord, Y. Li, O. Vinyals. *Representation learning with contrastive predictive coding.* 2018. InfoNCE.
# - A. Radford et al. *Learning transferable visual models from natural language supervision.* ICML 2021. CLIP.
# - R. Kiros, R. Salakhutdinov, R. Zemel. *Unifying visual-semantic embeddings with multimodal neural language models.* 2014.
# - M. Yuksekgonul et al. *When and why vision-language models behave like bags-of-words, and what to do about it.* ICLR 2023.

# %%
lesson.clock()
lesson.finish()
