"""What notebooks call: the lesson under way, its models' recipes, recorded runs, clocks and the leaderboard."""

from itr_lib.lessons.lesson import Lesson, open_lesson
