"""The learner's desk: what a check shows, what was done, and what is next. Without torch, so that it opens fast."""
