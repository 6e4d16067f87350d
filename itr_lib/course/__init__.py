"""The course as a program: build, run, execute, report, doctor; and what a notebook calls first."""

from itr_lib.course.lesson import Lesson, open_lesson

__all__ = ["Lesson", "open_lesson"]
