"""The course as a program: build, run, execute, report, doctor."""
