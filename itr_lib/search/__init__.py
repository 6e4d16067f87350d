"""An index that is searched in two stages, or in one where a model has only one score."""

from itr_lib.search.index import Found, TwoStageIndex
