"""Checks of lesson 03: the specifications as plain loops, and the mistakes people make."""

from __future__ import annotations

from itr_lib.checks.frame import Exercise

EXERCISES: tuple[Exercise, ...] = ()
